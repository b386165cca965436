"""The process pool: handlers in children, which are killed when they must be, and replaced."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.fake_broker import PATIENCE, FakeBroker, duration
from tests.sdk.process_workers import add, alive, program, until
from tests.sdk.running import fake_broker
from tests.support.broker_process import BrokerProcess
from towline import Client, ConfigurationError, Worker
from towline.v1 import job_pb2
from towline.v1.queue_service_pb2 import LeaseOutcome

POOL: dict[str, Any] = {"pool": "process"}


def result(broker: FakeBroker, job_id: str) -> Any:
    return json.loads(broker.ack(job_id).result)


def test_sync_and_async_handlers_run_in_processes_of_their_own() -> None:
    with fake_broker() as broker, program(broker, **POOL, concurrency=1) as worker:
        where = [result(broker, add(broker, "where")) for _ in range(2)]
        assert result(broker, add(broker, "double", {"number": 21})) == 42
        large = "ab" * 400_000
        assert result(broker, add(broker, "reverse", {"text": large})) == large[::-1]
        assert where[0]["pid"] == where[1]["pid"]
        assert where[0]["pid"] != worker.pid
        assert where[0]["stdin"] == ""
        children = worker.descendants()
        assert where[0]["pid"] in children
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends() == ["stopped 4 0"]
        until(lambda: not any(map(alive, children)), "the end of its processes")


def test_as_many_jobs_run_at_once_as_there_are_slots(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with fake_broker() as broker, program(broker, **POOL, concurrency=3) as worker:
        jobs = [add(broker, "wait_for_file", {"path": str(go)}) for _ in range(4)]
        pids = {worker.hears("waits")[0] for _ in range(3)}
        assert len(pids) == 3
        go.touch()
        assert {result(broker, job) for job in jobs} == {"there"}
        # Children are forked alike, and are not to roll the same dice.
        dice = [result(broker, add(broker, "where"))["dice"] for _ in range(4)]
        assert len(set(dice)) == 4


def test_a_handler_that_goes_on_after_its_timeout_is_killed_with_what_it_has_started() -> None:
    with fake_broker() as broker, program(broker, **POOL, concurrency=1, lease=1) as worker:
        spinning = add(broker, "spin", timeout=duration(0.5))
        child, started_by_it = map(int, worker.hears("spins"))
        nack = broker.nack(spinning)
        # Nobody else could have had the job before this.
        assert not alive(child)
        assert nack.failure.type == "JobTimeout"
        assert "timeout of 0.5 s" in nack.failure.message
        assert nack.WhichOneof("action") is None
        assert broker.heartbeats_of(spinning) >= 2
        until(lambda: not alive(started_by_it), "the end of what the handler has started")
        # The only slot is free again, and what is left of the time is no other job's.
        assert result(broker, add(broker, "where"))["remaining"] is None


def test_an_async_handler_is_cancelled_at_its_timeout_and_its_process_goes_on() -> None:
    with fake_broker() as broker, program(broker, **POOL, concurrency=1) as worker:
        sleeping = add(broker, "sleep_on_loop", timeout=duration(0.3))
        [child] = worker.hears("sleeps")
        worker.hears("cleaned up")
        assert broker.nack(sleeping).failure.type == "JobTimeout"
        assert result(broker, add(broker, "where"))["pid"] == int(child)


def test_the_death_of_a_child_fails_its_job_and_the_worker_goes_on() -> None:
    with fake_broker() as broker, program(broker, **POOL, concurrency=1, telling=True) as worker:
        killed = broker.nack(add(broker, "kill_itself"))
        assert killed.failure.type == "WorkerChildDied"
        assert "was killed by SIGKILL" in killed.failure.message
        assert killed.WhichOneof("action") is None
        left = broker.nack(add(broker, "leave", {"code": 3}))
        assert "ended with exit code 3" in left.failure.message
        assert result(broker, add(broker, "double", {"number": 4})) == 8
        # It is told in a child that lives.
        assert worker.hears("error")[1:] == ["WorkerChildDied", "True"]
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends()[-1] == "stopped 1 2"


@pytest.mark.parametrize("pool", ["process", "thread", "async"])
@pytest.mark.parametrize("handler", ["fork", "fork_async"])
@pytest.mark.parametrize(("how", "code"), [("return", 0), ("exit", 5), ("raise", 1)])
def test_a_copy_that_a_handler_forks_ends_where_the_handler_does(
    pool: str, handler: str, how: str, code: int
) -> None:
    with fake_broker() as broker, program(broker, pool=pool, concurrency=1, guardian=False):
        told = result(broker, add(broker, handler, {"how": how}))
        assert told["code"] == code
        for number in range(3):  # nobody else takes the jobs
            assert result(broker, add(broker, "double", {"number": number})) == 2 * number


def test_no_job_is_blamed_for_the_death_of_an_idle_child() -> None:
    with fake_broker() as broker, program(broker, **POOL, concurrency=1):
        pid = result(broker, add(broker, "where"))["pid"]
        for _ in range(5):
            os.kill(pid, signal.SIGKILL)
            pid = result(broker, add(broker, "where"))["pid"]


def test_the_class_of_a_job_decides_about_it_when_its_process_is_gone() -> None:
    with fake_broker() as broker, program(broker, **POOL):
        died = broker.nack(add(broker, "Choosy", {"dies": True}))
        assert died.retry_after.seconds == 7
        timed_out = broker.nack(add(broker, "Choosy", {"dies": False}, timeout=duration(0.2)))
        assert timed_out.dead_letter
        # One that cannot even be decided about has failed, and nobody else with it.
        poison = broker.nack(add(broker, "Poison"))
        assert poison.failure.type == "WorkerChildDied"
        assert result(broker, add(broker, "double", {"number": 4})) == 8


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (LeaseOutcome.LEASE_OUTCOME_LEASE_LOST, "LEASE_LOST"),
        (LeaseOutcome.LEASE_OUTCOME_CANCELLED, "JOB_CANCELLED"),
    ],
)
def test_a_handler_without_a_lease_is_told_and_if_it_goes_on_killed(
    outcome: LeaseOutcome.ValueType, reason: str
) -> None:
    with fake_broker() as broker, program(broker, **POOL, lease=1) as worker:
        told = add(broker, "wait_for_cancel")
        worker.hears("waits")
        deaf = add(broker, "spin")
        child = int(worker.hears("spins")[0])
        broker.set_outcome(told, outcome)
        assert worker.hears("was told:") == [f"CancelReason.{reason}"]
        broker.set_outcome(deaf, outcome)
        until(lambda: not alive(child), "the end of the child")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends()[-1] == "stopped 0 0"
        assert not broker.settled_count()


def test_progress_checkpoint_and_log_leave_the_child_and_the_lease_is_seen_there() -> None:
    earlier = job_pb2.Progress(fraction=0.1, checkpoint=b"there I was")
    with fake_broker() as broker, program(broker, **POOL, lease=3) as worker:
        reporting = add(broker, "report", last_progress=earlier)
        assert result(broker, reporting) == {"prolonged": 3, "earlier": "there I was"}
        told = [lease.progress for request in broker.heartbeats for lease in request.leases]
        [last] = [each for each in told if each.checkpoint]
        assert last.fraction == 1.0
        assert last.message == "step 100"
        assert last.checkpoint == b"here I was"
        until(lambda: "half way" in worker.log, "the line of the handler")


def test_middleware_and_callbacks_run_in_the_child() -> None:
    with fake_broker() as broker, program(broker, **POOL, concurrency=1, telling=True) as worker:
        pid = str(result(broker, add(broker, "where"))["pid"])
        assert worker.hears("start") == ["where", pid]
        assert worker.hears("around") == ["where", "in", pid]
        worker.hears("complete")


def test_middleware_is_told_of_the_end_of_a_job_whose_process_is_gone() -> None:
    with fake_broker() as broker, program(broker, **POOL, concurrency=1, telling=True) as worker:
        broker.ack(add(broker, "where"))
        assert worker.hears("ended where") == ["succeeded", "NoneType"]
        broker.nack(add(broker, "kill_itself"))
        assert worker.hears("ended kill_itself") == ["retried", "WorkerChildDied"]
        broker.nack(add(broker, "spin", timeout=duration(0.2)))
        assert worker.hears("ended spin") == ["retried", "JobTimeout"]


def test_a_child_is_replaced_after_so_many_jobs() -> None:
    with fake_broker() as broker, program(broker, **POOL, concurrency=1, max_jobs_per_child=2):
        pids = [result(broker, add(broker, "where"))["pid"] for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_a_child_that_holds_too_much_memory_is_replaced() -> None:
    options = {**POOL, "concurrency": 1, "max_memory_per_child": "300MB"}
    with fake_broker() as broker, program(broker, **options) as worker:
        pids = [result(broker, add(broker, "grow", {"megabytes": mb})) for mb in (1, 300, 1, 1)]
        assert pids[0] == pids[1] != pids[2] == pids[3]
        assert "MB: replaced" in worker.log


def test_when_the_worker_is_killed_its_handlers_end_at_once() -> None:
    with fake_broker() as broker, program(broker, **POOL) as worker:
        add(broker, "spin")
        child, other = map(int, worker.hears("spins"))
        everybody = worker.descendants()
        assert child in everybody
        worker.process.kill()
        until(lambda: not any(map(alive, [*everybody, other])), "the end of all of them")


def test_when_the_template_is_killed_the_worker_ends_and_its_jobs_are_not_left_behind() -> None:
    with fake_broker() as broker, program(broker, **POOL) as worker:
        spinning = add(broker, "wait_for_cancel")
        child = int(worker.hears("waits")[0])
        template = result(broker, add(broker, "where"))["parent"]
        os.kill(template, signal.SIGKILL)
        assert broker.nack(spinning).failure.type == "WorkerChildDied"
        worker.ends(code=1)
        until(lambda: not alive(child), "the end of the child")
        assert "WorkerChildDied: the process that forks those for jobs is gone" in worker.log


def test_ctrl_c_in_a_terminal_lets_running_jobs_finish(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with fake_broker() as broker, program(broker, **POOL) as worker:
        waiting = add(broker, "wait_for_file", {"path": str(go)})
        worker.hears("waits")
        os.killpg(worker.pid, signal.SIGINT)
        broker.wait_for_last_reserve()
        go.touch()
        assert result(broker, waiting) == "there"
        assert worker.ends() == ["stopped 1 0"]


def test_a_second_signal_gives_back_what_does_not_end_once_it_is_dead() -> None:
    with fake_broker() as broker, program(broker, **POOL) as worker:
        deaf = add(broker, "spin")
        child = int(worker.hears("spins")[0])
        told = add(broker, "wait_for_cancel")
        worker.hears("waits")
        for _ in range(2):
            worker.process.send_signal(signal.SIGTERM)
            broker.wait_for_last_reserve()
        assert broker.nack(told).HasField("release")
        assert broker.nack(deaf).HasField("release")
        assert not alive(child)
        assert worker.ends()[-1] == "stopped 0 0"


def test_children_that_die_at_their_start_are_not_forked_without_end(tmp_path: Path) -> None:
    with fake_broker() as broker, program(broker, **POOL, broken=str(tmp_path)) as worker:
        waiting = add(broker, "where")
        # It gives up after three tries, and the job was never begun.
        assert broker.nack(waiting).HasField("release")
        worker.ends(code=1)
        assert len(list(tmp_path.iterdir())) == 3
        assert "in a row could not be started" in worker.log


def test_a_process_with_a_channel_is_not_forked_and_told_the_way_out() -> None:
    with fake_broker() as broker:
        with program(broker, **POOL, before="a client") as worker:
            worker.ends(code=1)
            assert "call worker.prepare() before anything connects" in worker.log
        with program(broker, **POOL, before="prepare, then a client"):
            assert result(broker, add(broker, "double", {"number": 4})) == 8


def test_a_channel_of_this_process_is_noticed_whoever_opened_it() -> None:
    with fake_broker() as broker, pytest.raises(ConfigurationError, match="opened a gRPC channel"):
        Worker(broker.address, pool="process").start()


def test_a_worker_runs_again_with_the_same_template() -> None:
    with fake_broker() as broker, program(broker, **POOL, before="a run") as worker:
        first = result(broker, add(broker, "where"))
        worker.hears("first run is over")
        second = result(broker, add(broker, "where"))
        assert first["parent"] == second["parent"]
        assert first["pid"] != second["pid"]


def test_a_handler_in_a_child_cannot_stop_the_worker_and_hears_so() -> None:
    with fake_broker() as broker, program(broker, **POOL):
        assert "send SIGTERM" in result(broker, add(broker, "stop_the_worker"))


@pytest.mark.parametrize("job_type", ["dispatch", "dispatch_on_loop"])
def test_a_handler_may_use_a_client_of_its_own(job_type: str) -> None:
    with (
        BrokerProcess("memory:") as server,
        program(server.address, **POOL, concurrency=2),
        Client(server.address) as client,
    ):
        handles = [
            client.dispatch(job_type, {"address": server.address}, retention=60) for _ in range(6)
        ]
        for handle in handles:
            next_id = handle.result(timeout=PATIENCE)
            assert client.wait(next_id, PATIENCE).state == "SUCCEEDED"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_jobs_per_child": 5}, "there are children only with"),
        ({"pool": "process", "max_jobs_per_child": 0}, "max_jobs_per_child: expected a whole"),
        ({"pool": "process", "max_memory_per_child": "much"}, "max_memory_per_child: expected"),
        ({"pool": "process", "max_memory_per_child": 200}, "at least 1 MB"),
        ({"processes": 0}, "processes: expected a whole number from 1"),
        ({"processes": 2, "max_jobs": 5, "max_jobs_per_child": 5}, "name one of the two"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Worker("127.0.0.1:1", **options)
