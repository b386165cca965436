"""Several worker processes: each is looked after, and none is missed by its jobs."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.sdk.fake_broker import PATIENCE, FakeBroker
from tests.sdk.process_workers import add, alive, program, until
from tests.sdk.running import fake_broker
from tests.support.broker_process import BrokerProcess
from towline import Client, Worker
from towline.v1.queue_service_pb2 import WorkerDirective
from towline.worker import WorkerStateError

TWO: dict[str, Any] = {"processes": 2, "concurrency": 2, "worker_id": "us"}


def wait_for_members(broker: FakeBroker, *names: str) -> None:
    broker.wait_for(lambda: set(names) <= {request.worker_id for request in broker.reserves})


def where(broker: FakeBroker) -> dict[str, Any]:
    found = json.loads(broker.ack(add(broker, "where")).result)
    assert isinstance(found, dict)
    return found


def test_each_process_takes_jobs_under_a_name_of_its_own(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with fake_broker() as broker, program(broker, **TWO) as worker:
        wait_for_members(broker, "us.1", "us.2")
        jobs = [add(broker, "wait_for_file", {"path": str(go)}) for _ in range(4)]
        pids = {int(worker.hears("waits")[0]) for _ in range(4)}
        assert len(pids) == 2
        assert worker.pid not in pids
        worker.process.send_signal(signal.SIGTERM)
        go.touch()
        assert {broker.ack(job).result for job in jobs} == {b'"there"'}
        assert worker.ends() == ["stopped 4 0"]


def test_a_process_that_dies_is_replaced_and_its_job_runs_elsewhere(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with (
        BrokerProcess("memory:") as server,
        program(server.address, **TWO, lease=1) as worker,
        Client(server.address) as client,
    ):
        job = client.dispatch(
            "wait_for_file", {"path": str(go)}, retention=60, backoff=0, max_attempts=2
        )
        first = int(worker.hears("waits")[0])
        members = set(worker.descendants())
        os.kill(first, signal.SIGKILL)
        second = int(worker.hears("waits")[0])
        assert second != first
        until(lambda: len(set(worker.descendants()) - members) >= 1, "a new process")
        go.touch()
        assert job.result(PATIENCE) == "there"
        assert "was killed by SIGKILL: replaced" in worker.log


def test_processes_that_die_at_once_come_back_at_growing_intervals(tmp_path: Path) -> None:
    with fake_broker() as broker, program(broker, **TWO, broken=str(tmp_path)) as worker:
        until(lambda: len(list(tmp_path.iterdir())) >= 4, "two deaths of each")
        begun = time.monotonic()
        until(lambda: len(list(tmp_path.iterdir())) >= 6, "a third of each")
        assert time.monotonic() - begun >= 0.5
        worker.process.send_signal(signal.SIGTERM)
        worker.ends()
        pauses = [float(each) for each in re.findall(r"replaced in ([\d.]+) s", worker.log)]
        # What follows the third beginnings may be cut off by the signal.
        assert len(pauses) >= 4
        assert sorted(pauses)[:6] == [0.5, 0.5, 1.0, 1.0, 2.0, 2.0][: len(pauses)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_is_one_signal(tmp_path: Path, number: int) -> None:
    # Ctrl-C in a terminal, and the stop of a service manager that signals every process.
    go = tmp_path / "go"
    with (
        fake_broker() as broker,
        program(broker, **TWO, pool="process", before="prepare") as worker,
    ):
        jobs = [add(broker, "wait_for_file", {"path": str(go)}) for _ in range(3)]
        for _ in range(3):
            worker.hears("waits")
        for pid in [worker.pid, *worker.descendants()]:
            os.kill(pid, number)
        until(lambda: broker.parked == 0, "no process takes more jobs")
        go.touch()
        assert {broker.ack(job).result for job in jobs} == {b'"there"'}
        assert worker.ends() == ["stopped 3 0"]


def test_a_signal_to_one_process_stops_it_gracefully_and_replaces_it(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with fake_broker() as broker, program(broker, **TWO) as worker:
        wait_for_members(broker, "us.1", "us.2")
        waiting = add(broker, "wait_for_file", {"path": str(go)})
        one = int(worker.hears("waits")[0])
        for _ in range(2):  # for one alone a second does not mean at once
            os.kill(one, signal.SIGTERM)
        until(lambda: broker.parked == 1, "it takes no more jobs")
        go.touch()
        assert broker.ack(waiting).result == b'"there"'
        wait_for_members(broker, "us.3")
        assert not alive(one)


def test_a_second_signal_stops_all_at_once() -> None:
    with fake_broker() as broker, program(broker, **TWO) as worker:
        jobs = [add(broker, "wait_for_cancel") for _ in range(4)]
        for _ in range(4):
            worker.hears("waits")
        worker.process.send_signal(signal.SIGTERM)
        until(lambda: "SIGTERM: stopping" in worker.log, "the first is heard")
        worker.process.send_signal(signal.SIGTERM)
        assert all(broker.nack(job).HasField("release") for job in jobs)
        worker.ends()


def test_when_the_supervisor_is_killed_the_others_finish_what_runs(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with fake_broker() as broker, program(broker, **TWO) as worker:
        job = add(broker, "wait_for_file", {"path": str(go)})
        worker.hears("waits")
        members = worker.descendants()
        worker.process.kill()
        until(lambda: broker.parked == 0, "they take no more jobs")
        go.touch()
        assert broker.ack(job).result == b'"there"'
        until(lambda: not any(map(alive, members)), "their end")


def test_max_jobs_ends_each_process_and_with_the_last_the_worker() -> None:
    with fake_broker() as broker, program(broker, **TWO, max_jobs=2) as worker:
        for _ in range(4):
            add(broker, "where")
        assert worker.ends() == ["stopped 4 0"]


def test_max_time_ends_all() -> None:
    with fake_broker() as broker, program(broker, **TWO, max_time=0.5) as worker:
        assert worker.ends() == ["stopped 0 0"]


def test_a_process_is_replaced_after_so_many_jobs_and_when_it_holds_too_much_memory() -> None:
    options = {**TWO, "max_jobs_per_child": 3, "max_memory_per_child": "400MB"}
    with fake_broker() as broker, program(broker, **options) as worker:
        wait_for_members(broker, "us.1", "us.2")
        for _ in range(6):
            where(broker)
        wait_for_members(broker, "us.3")
        grown = json.loads(broker.ack(add(broker, "grow", {"megabytes": 400})).result)
        until(lambda: not alive(grown), "the end of the one that had grown")
        wait_for_members(broker, "us.4")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends() == ["stopped 7 0"]


def test_a_handler_may_stop_the_process_that_it_runs_in() -> None:
    with fake_broker() as broker, program(broker, **TWO) as worker:
        wait_for_members(broker, "us.1", "us.2")
        # Each is stopped by one of them, and is not replaced.
        for _ in range(2):
            assert broker.ack(add(broker, "stop_the_worker")).result == b'"told"'
        assert worker.ends() == ["stopped 2 0"]


def test_a_process_that_the_broker_stops_is_not_replaced() -> None:
    with fake_broker() as broker, program(broker, **TWO, lease=1) as worker:
        wait_for_members(broker, "us.1", "us.2")
        broker.directive = WorkerDirective.WORKER_DIRECTIVE_STOP
        for _ in range(4):  # so that each has something to tell the broker, and hears of it
            add(broker, "report")
        worker.ends()
        assert {request.worker_id for request in broker.reserves} == {"us.1", "us.2"}


def test_what_makes_working_impossible_ends_all_and_says_so() -> None:
    with fake_broker() as broker:
        broker.fail("Reserve", grpc.StatusCode.UNAUTHENTICATED, times=10)
        with program(broker, **TWO) as worker:
            worker.ends(code=1)
            assert re.search(r"WorkerProcessFailed: .*us\.[12] ended with Unauth", worker.log)


def test_it_works_in_the_main_thread_of_a_program_without_channels_only() -> None:
    worker = Worker("127.0.0.1:1", processes=2)
    with pytest.raises(WorkerStateError, match=r"use run\(\)"):
        worker.start()
    heard: list[BaseException] = []

    def run() -> None:
        try:
            worker.run()
        except WorkerStateError as error:
            heard.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    assert "main thread only" in str(heard[0])
    with fake_broker() as broker, program(broker, **TWO, before="a client") as other:
        other.ends(code=1)
        assert "run the worker in a program of its own" in other.log
