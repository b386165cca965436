"""Keeping leases while handlers run, and hearing that one is gone."""

import asyncio
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import grpc
import pytest

from tests.sdk.fake_broker import PATIENCE, FakeBroker
from tests.sdk.running import Heard, both_pools, fake_broker, working
from tests.support.standstill import Standstill
from towline.context import CancelReason, JobContext, current_job
from towline.control import Retry
from towline.errors import BrokerError, JobCancelled, LeaseLost, TowlineError
from towline.jobs import job
from towline.registry import Registry
from towline.v1 import job_pb2
from towline.v1.queue_service_pb2 import Ack, HeartbeatRequest, LeaseOutcome, WorkerDirective
from towline.worker import Worker
from towline.worker.leases import hold
from towline.worker.options import PoolName


class Handlers:
    """A registry of handlers that run until the test lets them go, or they are cancelled."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.contexts: list[JobContext] = []
        self.started = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.ended: list[str] = []

        @job(type="in_thread", registry=self.registry)
        def in_thread() -> str:
            self._start()
            while not current_job().cancelled and not self.go_on.wait(0.01):
                pass
            self.ended.append("in_thread")
            return "result"

        @job(type="on_loop", registry=self.registry)
        async def on_loop() -> str:
            self._start()
            try:
                while not self.go_on.is_set():  # noqa: ASYNC110 - set by another thread
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                self.ended.append("on_loop cancelled")
                raise
            self.ended.append("on_loop")
            return "result"

        @job(type="quick", registry=self.registry)
        def quick() -> None:
            pass

    def _start(self) -> None:
        self.contexts.append(current_job())
        self.started.release()

    def wait_for_start(self) -> JobContext:
        assert self.started.acquire(timeout=PATIENCE)
        return self.contexts[-1]


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


all_kinds = pytest.mark.parametrize("type", ["in_thread", "on_loop"])


def eventually(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)


@both_pools
@all_kinds
def test_a_lease_is_prolonged_while_its_handler_runs(
    handlers: Handlers, pool: PoolName, type: str
) -> None:
    with (
        fake_broker() as broker,
        working(broker, handlers.registry, pool=pool, lease=1, worker_id="me") as worker,
    ):
        job_id = broker.add(type)
        context = handlers.wait_for_start()
        beats = []
        for count in range(1, 6):
            broker.wait_for(lambda: broker.heartbeats_of(job_id) >= count)  # noqa: B023 -- asked now
            beats.append(time.monotonic())
        # At least three to a lease length; a busy machine may spread some of them, not all.
        assert min(later - earlier for earlier, later in pairwise(beats)) < 1 / 3 + 0.1
        eventually(lambda: not context.possibly_lost and 0 < (context.lease_remaining or 0) <= 1)
        assert {request.worker_id for request in broker.heartbeats} == {"me"}
        handlers.go_on.set()
        broker.ack(job_id)
        worker.stop()
    assert worker.stats.processed == 1


def test_a_busy_loop_loses_no_lease() -> None:
    @job(type="block", registry=(own := Registry()))
    async def block() -> None:
        started.set()
        go_on.wait(PATIENCE)  # blocks its loop

    started, go_on = threading.Event(), threading.Event()
    with fake_broker() as broker, working(broker, own, pool="async", lease=1):
        job_id = broker.add("block")
        assert started.wait(PATIENCE)
        broker.wait_for(lambda: broker.heartbeats_of(job_id) >= 3)
        go_on.set()
        broker.ack(job_id)


def test_one_call_speaks_for_all_leases(handlers: Handlers) -> None:
    with fake_broker() as broker, working(broker, handlers.registry, lease=1, concurrency=10):
        for _ in range(10):
            broker.add("in_thread")
        for _ in range(10):
            handlers.wait_for_start()
        broker.wait_for(lambda: broker.heartbeats and len(broker.heartbeats[-1].leases) == 10)
        handlers.go_on.set()


def test_a_lease_that_comes_late_is_prolonged_early(handlers: Handlers) -> None:
    with fake_broker() as broker, working(broker, handlers.registry, lease=30):
        job_id = broker.add("in_thread", lease=2)
        handlers.wait_for_start()
        begun = time.monotonic()
        broker.wait_for(lambda: broker.heartbeats_of(job_id) >= 1)
        # And not after a third of what leases usually have.
        assert time.monotonic() - begun < 5
        handlers.go_on.set()


def test_each_lease_is_prolonged_in_time_for_its_own_length(handlers: Handlers) -> None:
    with fake_broker() as broker, working(broker, handlers.registry, concurrency=3):
        broker.queue_leases = {"long": 3600, "short": 1.2}
        long = broker.add("in_thread", queue="long")
        handlers.wait_for_start()
        short = broker.add("in_thread", queue="short")
        handlers.wait_for_start()
        begun = time.monotonic()
        with Standstill() as standstill:
            broker.wait_for(lambda: broker.heartbeats_of(short) >= 3)
            took = time.monotonic() - begun
        # By the longer lease, the next would have been due after ten seconds.
        assert took < 1.2 + 1 + 3 * standstill.longest
        assert broker.heartbeats_of(long) >= 3  # one call speaks for all
        assert 3500 < (handlers.contexts[0].lease_remaining or 0) <= 3600
        handlers.go_on.set()


def test_an_idle_worker_stays_known(monkeypatch: pytest.MonkeyPatch, handlers: Handlers) -> None:
    monkeypatch.setattr("towline.worker.heartbeat.IDLE_INTERVAL", 0.3)
    with fake_broker() as broker, working(broker, handlers.registry, worker_id="me"):
        broker.wait_for(lambda: len(broker.heartbeats) >= 3)
        assert all(request == HeartbeatRequest(worker_id="me") for request in broker.heartbeats)


@both_pools
@all_kinds
@pytest.mark.parametrize(
    ("outcome", "reason", "error"),
    [
        (LeaseOutcome.LEASE_OUTCOME_LEASE_LOST, CancelReason.LEASE_LOST, LeaseLost),
        (LeaseOutcome.LEASE_OUTCOME_NOT_FOUND, CancelReason.LEASE_LOST, LeaseLost),
        (LeaseOutcome.LEASE_OUTCOME_ALREADY_SETTLED, CancelReason.LEASE_LOST, LeaseLost),
        (LeaseOutcome.LEASE_OUTCOME_CANCELLED, CancelReason.JOB_CANCELLED, JobCancelled),
    ],
)
def test_a_job_whose_lease_is_gone_is_cancelled_and_its_outcome_not_sent(
    handlers: Handlers,
    pool: PoolName,
    type: str,
    outcome: LeaseOutcome.ValueType,
    reason: CancelReason,
    error: type[TowlineError],
) -> None:
    heard = Heard()
    with (
        fake_broker() as broker,
        working(broker, handlers.registry, heard, pool=pool, lease=1, concurrency=1) as worker,
    ):
        job_id = broker.add(type)
        context = handlers.wait_for_start()
        broker.set_outcome(job_id, outcome)
        assert context.wait_cancelled(PATIENCE)
        assert context.cancel_reason is reason
        heard.wait_for(lambda: heard.job_errors)
        # The only slot is free again.
        broker.ack(broker.add("quick"))
        assert not broker.is_settled(job_id)
        worker.stop()
    assert (worker.stats.processed, worker.stats.lost) == (1, 1)
    assert handlers.ended == ["on_loop cancelled" if type == "on_loop" else "in_thread"]
    assert [each.__class__ for each in heard.errors] == [error]
    assert isinstance(heard.job_errors[0][1], error)
    assert len(heard.completed) == 1


def test_an_answer_of_a_newer_broker_counts_as_lost(handlers: Handlers) -> None:
    heard = Heard()
    with fake_broker() as broker, working(broker, handlers.registry, heard, lease=1) as worker:
        job_id = broker.add("in_thread")
        handlers.wait_for_start()
        broker.set_outcome(job_id, 99)  # type: ignore[arg-type]
        heard.wait_for(lambda: heard.job_errors)
        late = broker.add("quick")
        broker.set_outcome(late, 99)  # type: ignore[arg-type]
        heard.wait_for(lambda: len(heard.errors) == 2)
        broker.ack(broker.add("quick"))
        worker.stop()
    assert worker.stats.lost == 2


def test_a_worker_that_cannot_keep_its_leases_stops(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*told: object) -> None:
        raise RuntimeError("a defect")

    with fake_broker() as broker:
        worker = Worker(broker.address, registry=handlers.registry, lease=1, drain_timeout=0)
        worker.start()
        job_id = broker.add("in_thread")
        handlers.wait_for_start()
        monkeypatch.setattr("towline.worker.heartbeat.Heartbeater.send", break_down)
        with pytest.raises(RuntimeError, match="a defect"):
            worker.join(PATIENCE)
        assert broker.nack(job_id).WhichOneof("action") == "release"


def test_heartbeats_stop_for_a_lost_lease_but_go_on_for_others(handlers: Handlers) -> None:
    with fake_broker() as broker, working(broker, handlers.registry, lease=1):
        lost, kept = broker.add("in_thread"), broker.add("on_loop")
        handlers.wait_for_start()
        handlers.wait_for_start()
        broker.set_outcome(lost, LeaseOutcome.LEASE_OUTCOME_LEASE_LOST)
        # Of a heartbeat before that, it has heard nothing.
        eventually(lambda: handlers.ended == ["in_thread"])
        told = broker.heartbeats_of(lost)
        beats = broker.heartbeats_of(kept)
        broker.wait_for(lambda: broker.heartbeats_of(kept) >= beats + 3)
        assert broker.heartbeats_of(lost) == told
        handlers.go_on.set()
        broker.ack(kept)


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_a_lease_past_its_deadline_is_possibly_lost_and_its_outcome_still_told(
    handlers: Handlers, code: grpc.StatusCode
) -> None:
    with fake_broker() as broker, working(broker, handlers.registry, lease=1) as worker:
        broker.fail("Heartbeat", code, times=1000)
        job_id = broker.add("in_thread")
        context = handlers.wait_for_start()
        assert not context.possibly_lost
        eventually(lambda: context.possibly_lost)
        assert not context.cancelled
        handlers.go_on.set()
        broker.ack(job_id)
        worker.stop()
    assert worker.stats.processed == 1


def test_heartbeats_that_get_through_again_end_the_doubt(handlers: Handlers) -> None:
    with fake_broker() as broker, working(broker, handlers.registry, lease=1):
        broker.fail("Heartbeat", grpc.StatusCode.INTERNAL, times=12)
        broker.add("in_thread")
        context = handlers.wait_for_start()
        eventually(lambda: context.possibly_lost)
        eventually(lambda: not context.possibly_lost)
        handlers.go_on.set()


def test_a_finished_job_keeps_its_lease_until_its_outcome_is_recorded(handlers: Handlers) -> None:
    with fake_broker() as broker, working(broker, handlers.registry, lease=1) as worker:
        broker.fail("Ack", grpc.StatusCode.INTERNAL, times=5)
        job_id = broker.add("quick")
        broker.wait_for(lambda: broker.heartbeats_of(job_id) >= 2)
        broker.ack(job_id)
        worker.stop()
    assert worker.stats.processed == 1


def test_told_to_stop_the_worker_finishes_what_runs_and_ends(handlers: Handlers) -> None:
    with fake_broker() as broker, working(broker, handlers.registry, lease=1) as worker:
        running = broker.add("in_thread")
        handlers.wait_for_start()
        broker.wait_for(lambda: broker.parked == 1)
        broker.directive = WorkerDirective.WORKER_DIRECTIVE_STOP
        broker.wait_for_last_reserve()
        left = broker.add("quick")
        assert worker.running
        handlers.go_on.set()
        broker.ack(running)
        assert worker.join(PATIENCE)
        assert not broker.was_granted(left)


def report(progress: job_pb2.Progress) -> tuple[float, str, bytes]:
    return progress.fraction, progress.message, progress.checkpoint


def reports_of(broker: FakeBroker) -> list[tuple[float, str, bytes]]:
    return [
        report(lease.progress)
        for request in broker.heartbeats
        for lease in request.leases
        if lease.HasField("progress")
    ]


@both_pools
def test_progress_is_told_soon_and_once(handlers: Handlers, pool: PoolName) -> None:
    with fake_broker() as broker, working(broker, handlers.registry, pool=pool, lease=30):
        broker.add("in_thread")
        context = handlers.wait_for_start()
        begun = time.monotonic()
        context.progress(0.25, "a quarter")
        broker.wait_for(lambda: reports_of(broker))
        # And not with the next heartbeat that the lease needs.
        assert time.monotonic() - begun < 8
        context.progress(0.5, "\udc80 is no UTF-8")
        for step in range(1000):
            context.progress(step / 1000)
        context.checkpoint(b"notes")
        broker.wait_for(lambda: reports_of(broker)[-1] == (0.999, "", b"notes"))
        assert reports_of(broker)[0] == (0.25, "a quarter", b"")
        assert len(reports_of(broker)) <= 4
        handlers.go_on.set()


def test_progress_that_got_lost_is_told_again(handlers: Handlers) -> None:
    with fake_broker() as broker, working(broker, handlers.registry, lease=3):
        broker.add("in_thread")
        context = handlers.wait_for_start()
        broker.fail("Heartbeat", grpc.StatusCode.INTERNAL, times=2)
        context.progress(0.5)
        broker.wait_for(lambda: (0.5, "", b"") in reports_of(broker))
        handlers.go_on.set()


def test_progress_that_the_broker_refuses_costs_no_lease(handlers: Handlers) -> None:
    heard = Heard()
    with fake_broker() as broker, working(broker, handlers.registry, heard, lease=1):
        job_id = broker.add("in_thread")
        context = handlers.wait_for_start()
        broker.refuse(job_id, "Heartbeat")
        context.progress(0.5)
        heard.wait_for(lambda: heard.errors)
        beats = broker.heartbeats_of(job_id)
        broker.wait_for(lambda: broker.heartbeats_of(job_id) >= beats + 2)
        handlers.go_on.set()
        broker.ack(job_id)
    assert [type(error) for error in heard.errors] == [BrokerError]


def test_a_lease_that_these_credentials_do_not_hold_is_lost(handlers: Handlers) -> None:
    heard = Heard()
    with fake_broker() as broker, working(broker, handlers.registry, heard, lease=1):
        job_id = broker.add("in_thread")
        context = handlers.wait_for_start()
        broker.refuse(job_id, "Heartbeat", reason="PERMISSION_DENIED")
        heard.wait_for(lambda: heard.errors)
        assert context.cancel_reason is CancelReason.LEASE_LOST
        handlers.go_on.set()
    [error] = heard.errors
    assert isinstance(error, LeaseLost)
    assert "scripted refusal" in str(error)


@both_pools
def test_a_checkpoint_reaches_the_broker_before_the_failure_does(pool: PoolName) -> None:
    @job(type="give_up", registry=(own := Registry()))
    def give_up() -> None:
        current_job().checkpoint(b"got this far")
        raise Retry

    order: list[str] = []

    class Watched(FakeBroker):
        def Heartbeat(self, request, context):  # type: ignore[no-untyped-def] # noqa: N802
            if request.leases:  # the first one only says that the worker is there
                order.append("progress")
            return super().Heartbeat(request, context)

        def Nack(self, request, context):  # type: ignore[no-untyped-def] # noqa: N802
            order.append("failure")
            return super().Nack(request, context)

    broker = Watched()
    broker.start()
    try:
        with working(broker, own, pool=pool, lease=30):
            broker.nack(broker.add("give_up"))
    finally:
        broker.stop()
    assert order == ["progress", "failure"]
    assert reports_of(broker) == [(0.0, "", b"got this far")]


def test_what_earlier_attempts_left_is_at_hand(handlers: Handlers) -> None:
    failure = job_pb2.Failure(type="ValueError", message="no", trace="Traceback")
    failure.failed_at.FromSeconds(1_700_000_000)
    progress = job_pb2.Progress(fraction=0.5, message="half", checkpoint=b"notes")
    with fake_broker() as broker, working(broker, handlers.registry):
        broker.add("in_thread", attempt=2, last_failure=failure, last_progress=progress)
        context = handlers.wait_for_start()
        handlers.go_on.set()
    assert context.attempt == 2
    assert context.last_failure is not None
    assert (context.last_failure.type, context.last_failure.message) == ("ValueError", "no")
    assert context.last_failure.failed_at is not None
    assert context.last_failure.failed_at.timestamp() == 1_700_000_000
    assert context.last_progress is not None
    assert context.last_progress.checkpoint == b"notes"
    assert context.enqueued_at is not None
    assert context.enqueued_at.tzinfo is not None


def test_a_lease_shows_neither_token_nor_payload_nor_result() -> None:
    job = job_pb2.Job(id="1", type="quick", payload=b"what it works on")
    held = hold(job_pb2.Lease(lease_token="secret", job=job), None, lambda: None)
    held.settlement = Ack(lease_token="secret", result=b"what came of it")
    assert "id='1'" in repr(held)
    for hidden in ("secret", "what it works on", "what came of it"):
        assert hidden not in repr(held)
