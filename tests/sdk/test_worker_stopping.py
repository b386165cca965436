"""Stopping: what runs is finished or given back, and the process ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.fake_broker import PATIENCE, FakeBroker
from tests.sdk.running import Heard, both_pools, fake_broker, working
from towline.context import CancelReason, current_job
from towline.control import Reject
from towline.jobs import job
from towline.registry import Registry
from towline.worker import Worker, WorkerStateError
from towline.worker.options import PoolName
from towline.worker.signals import StopSignals

ROOT = Path(__file__).parents[2]
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


class Program:
    """The worker program as a child process."""

    def __init__(self, broker: FakeBroker, pool: PoolName, drain_timeout: float) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.sdk.worker_program",
                broker.address,
                pool,
                str(drain_timeout),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hears(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def ends(self, within: float = PATIENCE) -> None:
        self.hears("stopped")
        assert self.process.wait(within) == 0


@contextlib.contextmanager
def program(broker: FakeBroker, pool: PoolName, drain_timeout: float) -> Iterator[Program]:
    running = Program(broker, pool, drain_timeout)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        assert running.process.stdout is not None
        running.process.stdout.close()


@both_pools
@SIGNALS
def test_a_signal_lets_running_jobs_finish_and_takes_no_more(
    tmp_path: Path, pool: PoolName, number: int
) -> None:
    path = tmp_path / "go"
    with fake_broker() as broker, program(broker, pool, 60) as worker:
        running = broker.add("wait_for_file", json.dumps({"path": str(path)}).encode())
        worker.hears("started")
        broker.wait_for(lambda: broker.parked == 1)
        worker.send(number)
        broker.wait_for_last_reserve()
        left = broker.add("wait_for_cancel")
        path.touch()
        assert broker.ack(running).result == b'"there"'
        worker.ends()
        assert not broker.was_granted(left)


def test_a_terminal_that_is_closed_lets_running_jobs_finish(tmp_path: Path) -> None:
    path = tmp_path / "go"
    with fake_broker() as broker, program(broker, "thread", 60) as worker:
        running = broker.add("wait_for_file", json.dumps({"path": str(path)}).encode())
        worker.hears("started")
        broker.wait_for(lambda: broker.parked == 1)
        worker.send(signal.SIGHUP)
        broker.wait_for_last_reserve()
        # The system and the shell of the terminal each send one.
        worker.send(signal.SIGHUP)
        path.touch()
        assert broker.ack(running).result == b'"there"'
        worker.ends()


def test_a_worker_of_nohup_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


@both_pools
def test_what_does_not_finish_in_time_is_given_back(pool: PoolName) -> None:
    types = ["wait_on_loop", "wait_for_cancel", "hang"]
    with fake_broker() as broker, program(broker, pool, 0.3) as worker:
        running = [broker.add(type) for type in types]
        for _ in running:
            worker.hears("started")
        worker.send(signal.SIGTERM)
        for each in running:
            nack = broker.nack(each)
            assert nack.WhichOneof("action") == "release"
            assert not nack.release.HasField("delay")
        # Although one handler hangs.
        worker.ends()


@both_pools
@SIGNALS
def test_a_second_signal_stops_at_once_and_gives_back_what_runs(
    pool: PoolName, number: int
) -> None:
    types = ["wait_on_loop", "wait_for_cancel", "hang"]
    with fake_broker() as broker, program(broker, pool, 600) as worker:
        running = [broker.add(type) for type in types]
        for _ in running:
            worker.hears("started")
        broker.wait_for(lambda: broker.parked == 1)
        worker.send(number)
        broker.wait_for_last_reserve()
        assert not any(broker.is_settled(each) for each in running)
        worker.send(number)
        for each in running:
            assert broker.nack(each).WhichOneof("action") == "release"
        worker.ends(within=10)


def test_a_worker_without_a_broker_stops_at_the_first_signal() -> None:
    with fake_broker() as broker:
        pass
    with program(broker, "thread", 60) as worker:
        worker.hears("error")
        worker.send(signal.SIGTERM)
        worker.ends()


class Handlers:
    def __init__(self) -> None:
        self.registry = Registry()
        self.started = threading.Semaphore(0)
        self.go_on = threading.Event()

        @job(type="obey", registry=self.registry)
        def obey(then: str = "return") -> str:
            self.started.release()
            context = current_job()
            assert context.wait_cancelled(PATIENCE)
            assert context.cancel_reason is CancelReason.STOPPING
            if then == "raise":
                raise ValueError("cut short")
            if then == "reject":
                raise Reject("no more")
            return "cut short"

        @job(type="ignore", registry=self.registry)
        def ignore() -> None:
            self.started.release()
            assert self.go_on.wait(PATIENCE)

        @job(type="quick", registry=self.registry)
        def quick() -> None:
            pass

    def wait_for_start(self) -> None:
        assert self.started.acquire(timeout=PATIENCE)


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@both_pools
@pytest.mark.parametrize("then", ["return", "raise"])
def test_a_job_cut_short_by_the_stop_is_given_back_however_it_ends(
    handlers: Handlers, pool: PoolName, then: str
) -> None:
    heard = Heard()
    with fake_broker() as broker, working(broker, handlers.registry, heard, pool=pool) as worker:
        job_id = broker.add("obey", json.dumps({"then": then}).encode())
        handlers.wait_for_start()
        worker.stop(0)
        assert broker.nack(job_id).WhichOneof("action") == "release"
    assert worker.stats.released == 1
    assert not heard.completed
    assert not heard.job_errors


def test_what_a_job_cut_short_asks_for_is_done(handlers: Handlers) -> None:
    with fake_broker() as broker, working(broker, handlers.registry) as worker:
        job_id = broker.add("obey", b'{"then": "reject"}')
        handlers.wait_for_start()
        worker.stop(0)
        assert broker.nack(job_id).dead_letter


@both_pools
def test_a_handler_left_behind_tells_nothing_later(handlers: Handlers, pool: PoolName) -> None:
    heard = Heard()
    with fake_broker() as broker, working(broker, handlers.registry, heard, pool=pool) as worker:
        job_id = broker.add("ignore")
        handlers.wait_for_start()
        worker.stop(0)
        assert broker.nack(job_id).WhichOneof("action") == "release"
        before = threading.active_count()
        handlers.go_on.set()
        until = time.monotonic() + PATIENCE
        while threading.active_count() >= before:  # its thread ends with it
            assert time.monotonic() < until
            time.sleep(0.01)
        assert broker.settled_count() == 1
        assert len([item for call in broker.settle_calls for item in call]) == 1
    assert not heard.completed


def test_all_threads_of_a_stopped_worker_are_gone(handlers: Handlers) -> None:
    before = set(threading.enumerate())  # such as those of a broker in this process

    def left() -> list[str]:
        return [each.name for each in threading.enumerate() if each not in before]

    with fake_broker() as broker:
        for pool in ("thread", "async"):
            with working(broker, handlers.registry, pool=pool):
                broker.ack(broker.add("quick"))
        until = time.monotonic() + PATIENCE
        while any("towline" in name for name in left()) and time.monotonic() < until:
            time.sleep(0.01)
        assert not [name for name in left() if "towline" in name]


def test_a_handler_may_stop_its_own_worker() -> None:
    @job(type="last", registry=(own := Registry()))
    def last() -> str:
        worker.stop(wait=False)
        return "done"

    with fake_broker() as broker, working(broker, own) as worker:
        job_id = broker.add("last")
        assert worker.join(PATIENCE)
        assert broker.is_settled(job_id)
        broker.ack(job_id)


def test_a_worker_can_start_again_after_it_has_stopped(handlers: Handlers) -> None:
    with fake_broker() as broker:
        worker = Worker(broker.address, registry=handlers.registry)
        for _ in range(3):
            with worker:
                assert worker.running
                with pytest.raises(WorkerStateError, match="runs already"):
                    worker.start()
                with pytest.raises(WorkerStateError, match="runs already"):
                    worker.run_once()
                broker.ack(broker.add("quick"))
            assert not worker.running
    assert worker.stats.processed == 3


def test_joining_a_worker_that_was_never_started_is_an_error() -> None:
    worker = Worker("127.0.0.1:1")
    worker.stop()
    with pytest.raises(WorkerStateError, match="never started"):
        worker.join()


def test_run_puts_the_signal_handlers_back(handlers: Handlers) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with fake_broker() as broker:
        broker.add("quick")
        Worker(broker.address, registry=handlers.registry, max_jobs=1).run()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_run_works_in_any_thread(handlers: Handlers) -> None:
    with fake_broker() as broker:
        broker.add("quick")
        worker = Worker(broker.address, registry=handlers.registry, max_jobs=1)
        thread = threading.Thread(target=worker.run)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert worker.stats.processed == 1
