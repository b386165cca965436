"""Handlers that do not end although they are told to, and processes that grow too large."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sdk.fake_broker import PATIENCE, duration
from tests.sdk.running import both_pools, fake_broker, working
from towline import Registry, Worker, current_job, job
from towline.v1.queue_service_pb2 import LeaseOutcome, WorkerDirective
from towline.worker import StopReason, watch
from towline.worker.options import PoolName
from towline.worker.processes.limits import resident_bytes

registry = Registry()
go_on = threading.Event()
started = threading.Semaphore(0)


@job(registry=registry)
def ignore() -> str:
    """Does not look whether it is told to end."""
    started.release()
    assert go_on.wait(PATIENCE)
    return "late"


@job(registry=registry)
async def block() -> str:
    """Lets nothing else run on its loop."""
    started.release()
    assert go_on.wait(PATIENCE)
    return "late"


@job(registry=registry)
async def swallow() -> str:
    """Takes no notice of being cancelled."""
    started.release()
    while not go_on.is_set():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            continue
    return "late"


@job(registry=registry)
async def on_loop() -> None:
    pass


@job(registry=registry)
def quick() -> None:
    pass


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(watch, "TICK", 0.05)
    monkeypatch.setattr(watch, "ABANDON_AFTER", 0.3)
    monkeypatch.setattr(watch, "LATE", 0.1)
    monkeypatch.setattr(watch, "BLOCKED_AFTER", 0.5)
    global started
    started = threading.Semaphore(0)
    go_on.clear()
    yield
    go_on.set()


def has_started() -> None:
    assert started.acquire(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("pool", "type"), [("thread", "ignore"), ("async", "ignore"), ("async", "swallow")]
)
def test_a_handler_that_outlives_its_timeout_gives_up_its_slot_and_keeps_its_lease(
    pool: PoolName, type: str
) -> None:
    with (
        fake_broker() as broker,
        working(broker, registry, pool=pool, lease=1, concurrency=2) as worker,
    ):
        other = broker.add("ignore")
        has_started()
        hangs = broker.add(type, timeout=duration(0.1))
        has_started()
        # The slot of one of the two is free again, for any number of jobs.
        for _ in range(3):
            broker.ack(broker.add("quick"))
        beats = broker.heartbeats_of(hangs)
        broker.wait_for(lambda: broker.heartbeats_of(hangs) >= beats + 3)
        assert not broker.is_settled(hangs)
        assert worker.running
        go_on.set()
        assert broker.nack(hangs).failure.type == "JobTimeout"
        broker.ack(other)
        # Both slots are there again, and no more than that.
        go_on.clear()
        more = [broker.add("ignore") for _ in range(3)]
        has_started()
        has_started()
        assert not started.acquire(timeout=0.3)
        go_on.set()
        for each in more:
            broker.ack(each)


@both_pools
def test_a_handler_whose_lease_is_lost_gives_up_its_slot_too(pool: PoolName) -> None:
    with fake_broker() as broker, working(broker, registry, pool=pool, lease=1, concurrency=2):
        broker.add("ignore")
        has_started()
        lost = broker.add("ignore")
        has_started()
        broker.set_outcome(lost, LeaseOutcome.LEASE_OUTCOME_LEASE_LOST)
        broker.ack(broker.add("quick"))
        go_on.set()


@both_pools
def test_when_as_many_are_abandoned_as_there_are_slots_the_worker_stops(pool: PoolName) -> None:
    with (
        fake_broker() as broker,
        working(broker, registry, pool=pool, concurrency=2, drain_timeout=60) as worker,
    ):
        assert reason_of(worker) is None
        hangs = [broker.add("ignore", timeout=duration(0.1)) for _ in range(2)]
        has_started()
        has_started()
        assert worker.join(PATIENCE)
        assert worker.stop_reason is StopReason.STUCK
        # They have failed, rather than being given back to hang the next worker without end.
        for each in hangs:
            nack = broker.nack(each)
            assert nack.WhichOneof("action") is None
            assert nack.failure.type == "JobTimeout"


@both_pools
def test_a_job_past_its_timeout_has_failed_when_the_worker_is_stopped_over_it(
    pool: PoolName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "ABANDON_AFTER", 1000)
    with fake_broker() as broker, working(broker, registry, pool=pool) as worker:
        limited = broker.add("ignore", timeout=duration(0.1))
        unlimited = broker.add("ignore")
        has_started()
        has_started()
        time.sleep(0.2)
        worker.stop(0)
        assert broker.nack(limited).failure.type == "JobTimeout"
        assert broker.nack(unlimited).WhichOneof("action") == "release"


def test_while_the_loop_is_blocked_no_jobs_are_taken_and_those_that_wait_go_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        fake_broker() as broker,
        working(broker, registry, pool="async", lease=1, concurrency=4) as worker,
    ):
        broker.wait_for(lambda: broker.parked == 1)
        blocks = broker.add("block")
        has_started()
        waits = [broker.add("on_loop") for _ in range(2)]
        for each in waits:
            assert broker.nack(each).WhichOneof("action") == "release"
        broker.wait_for_last_reserve()
        later = broker.add("quick")
        assert not broker.was_granted(later)
        # The lease of what runs is kept, and it may go on for as long as it likes.
        beats = broker.heartbeats_of(blocks)
        broker.wait_for(lambda: broker.heartbeats_of(blocks) >= beats + 3)
        go_on.set()
        broker.ack(blocks)
        broker.ack(later)
        assert worker.stats.released == 2
    assert "blocks the event loop" in caplog.text


def test_told_by_the_broker_to_go_on_it_waits_for_its_loop_all_the_same() -> None:
    with fake_broker() as broker, working(broker, registry, pool="async", lease=1):
        broker.wait_for(lambda: broker.parked == 1)
        blocks = broker.add("block")
        has_started()
        broker.directive = WorkerDirective.WORKER_DIRECTIVE_QUIET
        broker.wait_for_last_reserve()
        beats = len(broker.heartbeats)
        broker.wait_for(lambda: len(broker.heartbeats) >= beats + 3)
        broker.directive = WorkerDirective.WORKER_DIRECTIVE_NONE
        later = broker.add("quick")
        beats = len(broker.heartbeats)
        broker.wait_for(lambda: len(broker.heartbeats) >= beats + 3)
        assert not broker.was_granted(later)
        go_on.set()
        broker.ack(blocks)
        broker.ack(later)


def test_a_handler_that_blocks_the_loop_beyond_its_timeout_is_told_and_stops_the_worker() -> None:
    reasons = []

    @job(type="hog", registry=(own := Registry()))
    async def hog() -> None:
        started.release()
        assert go_on.wait(PATIENCE)
        reasons.append(current_job().cancel_reason)

    with (
        fake_broker() as broker,
        working(broker, own, pool="async", concurrency=8, drain_timeout=0) as worker,
    ):
        hogs = broker.add("hog", timeout=duration(0.2))
        has_started()
        assert worker.join(PATIENCE)
        assert worker.stop_reason is StopReason.STUCK
        assert broker.nack(hogs).failure.type == "JobTimeout"


def test_max_memory_stops_a_worker_that_grows_beyond_it() -> None:
    kept = []

    @job(type="grow", registry=(own := Registry()))
    def grow() -> None:
        kept.append(b"\1" * (200 * 10**6))

    limit = resident_bytes() + 100 * 10**6
    with fake_broker() as broker:
        worker = Worker(broker.address, registry=own, max_memory=limit, guardian=False)
        with worker:
            broker.wait_for(lambda: broker.parked == 1)
            assert not worker.join(0.3)
            grown = broker.add("grow")
            broker.ack(grown)
            assert worker.join(PATIENCE)
    assert worker.stop_reason is StopReason.MAX_MEMORY


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_jobs": 1}, StopReason.MAX_JOBS),
        ({"max_time": 0.1}, StopReason.MAX_TIME),
    ],
)
def test_a_worker_tells_why_it_stops(
    options: dict[str, Any], reason: StopReason, caplog: pytest.LogCaptureFixture
) -> None:
    with fake_broker() as broker, working(broker, registry, **options) as worker:
        broker.add("quick")
        assert worker.join(PATIENCE)
        assert worker.stop_reason is reason
    # It was asked for, so it is no warning.
    assert [each for each in caplog.records if each.levelno > logging.INFO] == []


def reason_of(worker: Worker) -> StopReason | None:
    return worker.stop_reason


def test_it_tells_of_being_told_and_of_one_run() -> None:
    with fake_broker() as broker:
        with working(broker, registry) as worker:
            broker.directive = WorkerDirective.WORKER_DIRECTIVE_STOP
            worker.join(PATIENCE)
        assert reason_of(worker) is StopReason.BROKER
        broker.directive = WorkerDirective.WORKER_DIRECTIVE_NONE
        with working(broker, registry) as worker:
            pass
        assert reason_of(worker) is StopReason.TOLD
        worker.run_once()
        assert reason_of(worker) is StopReason.ONCE
