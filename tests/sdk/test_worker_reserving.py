"""Taking jobs: what is asked for, so that no lease is doubled and none is left behind."""

import socket
import threading
import time

import grpc
import pytest

from tests.sdk.fake_broker import PATIENCE, FakeBroker
from tests.sdk.running import Heard, both_pools, fake_broker, happens, working
from towline import current_job
from towline.errors import BrokerUnavailable, InvalidArgument, PermissionDenied, Unauthenticated
from towline.jobs import Job, job
from towline.registry import Registry
from towline.v1.queue_service_pb2 import WorkerDirective
from towline.worker import UnknownJobType, Worker
from towline.worker.options import PoolName
from towline.worker.session import EMPTY_PAUSE

registry = Registry()
started = threading.Semaphore(0)
go_on = threading.Event()


@job(registry=registry)
def quick() -> None:
    pass


@job(registry=registry)
def wait_for_it() -> None:
    started.release()
    assert go_on.wait(PATIENCE)


class RunsElsewhere(Job, registry=registry):
    """No handle(): a type that this process can only dispatch."""


@pytest.fixture(autouse=True)
def _fresh_events() -> None:
    global started
    started = threading.Semaphore(0)
    go_on.clear()


def parked(broker: FakeBroker) -> None:
    broker.wait_for(lambda: broker.parked == 1)


def test_a_reserve_names_queues_in_order_slots_lease_and_worker() -> None:
    with (
        fake_broker() as broker,
        working(
            broker,
            registry,
            queues=["urgent", "other"],
            concurrency=5,
            lease=45,
            worker_id="my-worker",
        ),
    ):
        parked(broker)
        [request] = broker.reserves
    assert [(choice.name, choice.weight) for choice in request.queues] == [
        ("urgent", 0),
        ("other", 0),
    ]
    assert request.max_jobs == 5
    assert request.lease.ToSeconds() == 45
    assert request.worker_id == "my-worker"
    assert 0 < request.wait.ToSeconds() <= 20


def test_a_worker_that_names_no_lease_leaves_it_to_the_broker() -> None:
    with fake_broker() as broker, working(broker, registry):
        parked(broker)
        [request] = broker.reserves
    assert not request.HasField("lease")


def test_weights_go_with_the_queues() -> None:
    with (
        fake_broker() as broker,
        working(broker, registry, queues={"emails": 3, "reports": 1}),
    ):
        parked(broker)
        [request] = broker.reserves
    weights = [(choice.name, choice.weight) for choice in request.queues]
    assert weights == [("emails", 3), ("reports", 1)]


@both_pools
def test_no_more_jobs_are_taken_than_there_are_free_slots(pool: PoolName) -> None:
    with fake_broker() as broker, working(broker, registry, pool=pool, concurrency=3) as worker:
        jobs = [broker.add("wait_for_it") for _ in range(8)]
        for _ in range(3):
            assert started.acquire(timeout=PATIENCE)
        assert sum(broker.grants().values()) == 3
        assert not started.acquire(timeout=0.2), "a fourth job runs"
        go_on.set()
        for each in jobs:
            broker.ack(each)
        worker.stop()
    assert worker.stats.processed == 8
    assert all(request.max_jobs <= 3 for request in broker.reserves)


@both_pools
def test_no_job_waits_for_another_while_a_slot_is_free(pool: PoolName) -> None:
    meeting = threading.Barrier(4)

    @job(type="meet", registry=(own := Registry()))
    def meet() -> None:
        meeting.wait(PATIENCE)

    @job(type="quick", registry=own)
    def quick() -> None:
        pass

    with fake_broker() as broker, working(broker, own, pool=pool, concurrency=4):
        for _ in range(20):
            added = [broker.add(type) for type in ["quick", "meet"] * 4]
            for each in added:
                broker.ack(each)


def test_each_reserve_has_an_id_of_its_own() -> None:
    with fake_broker() as broker, working(broker, registry, concurrency=1):
        for _ in range(5):
            broker.ack(broker.add("quick"))
        parked(broker)
        ids = [request.request_id for request in broker.reserves]
    assert len(ids) >= 6
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ],
)
@pytest.mark.parametrize("times", [1, 4])
def test_leases_of_an_answer_that_got_lost_are_handed_out_again_and_no_others(
    code: grpc.StatusCode, times: int
) -> None:
    with fake_broker() as broker:
        jobs = [broker.add("quick") for _ in range(20)]
        broker.fail("Reserve", code, times, after=True)
        with working(broker, registry, concurrency=4):
            for each in jobs:
                broker.ack(each)
        ids = [request.request_id for request in broker.reserves]
        assert len(set(ids[: times + 1])) == 1, "a repeat has the same id"
        assert broker.grants() == dict.fromkeys(jobs, 1)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgument),
        (grpc.StatusCode.UNAUTHENTICATED, Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDenied),
    ],
)
def test_what_trying_again_cannot_help_ends_the_worker_with_its_error(
    code: grpc.StatusCode, error: type[Exception]
) -> None:
    heard = Heard()
    with fake_broker() as broker:
        broker.fail("Reserve", code)
        worker = Worker(broker.address, registry=registry, **heard.callbacks())
        with pytest.raises(error):
            worker.run()
        assert [type(each) for each in heard.errors] == [error]
        assert len(broker.reserves) == 1


def test_leases_on_their_way_when_the_worker_stops_are_given_back() -> None:
    with fake_broker() as broker:
        broker.keep_back("Reserve")
        jobs = [broker.add("quick") for _ in range(3)]
        with working(broker, registry, concurrency=3) as worker:
            broker.wait_for(lambda: all(broker.is_leased(each) for each in jobs))
            worker.stop()
        for each in jobs:
            nack = broker.nack(each)
            assert nack.WhichOneof("action") == "release"
            assert not nack.release.HasField("delay")
    assert worker.stats.released == 3


def test_an_idle_worker_stops_at_once() -> None:
    with fake_broker() as broker, working(broker, registry) as worker:
        parked(broker)
        begun = time.monotonic()
        worker.stop()
        assert time.monotonic() - begun < 5
        assert not worker.running


def test_a_quiet_worker_takes_nothing_until_it_may_go_on() -> None:
    with fake_broker() as broker, working(broker, registry, lease=1, concurrency=2):
        running = broker.add("wait_for_it")
        assert started.acquire(timeout=PATIENCE)
        parked(broker)
        broker.directive = WorkerDirective.WORKER_DIRECTIVE_QUIET
        broker.wait_for_last_reserve()
        waiting = broker.add("quick")
        beats = len(broker.heartbeats)
        broker.wait_for(lambda: len(broker.heartbeats) >= beats + 3)
        assert not broker.was_granted(waiting)
        assert not broker.is_settled(running)  # what is at hand is finished
        broker.directive = WorkerDirective.WORKER_DIRECTIVE_NONE
        broker.ack(waiting)
        go_on.set()
        broker.ack(running)


@both_pools
def test_max_jobs_ends_the_worker_after_exactly_so_many(pool: PoolName) -> None:
    with fake_broker() as broker:
        for _ in range(9):
            broker.add("quick")
        worker = Worker(broker.address, registry=registry, pool=pool, max_jobs=5)
        worker.run()
        assert sum(broker.grants().values()) == 5
    assert worker.stats.processed == 5


def test_a_job_of_unknown_type_does_not_count_for_max_jobs() -> None:
    with fake_broker() as broker:
        unknown = broker.add("Unknown")
        known = broker.add("quick")
        Worker(broker.address, registry=registry, max_jobs=1, concurrency=1).run()
        assert broker.nack(unknown).WhichOneof("action") == "release"
        assert broker.is_settled(known)


def test_max_jobs_waits_for_the_jobs_that_it_took_however_long_they_run() -> None:
    with (
        fake_broker() as broker,
        working(broker, registry, max_jobs=1, drain_timeout=0) as worker,
    ):
        running = broker.add("wait_for_it")
        assert started.acquire(timeout=PATIENCE)
        assert not worker.join(timeout=0.3)
        go_on.set()
        broker.ack(running)
        assert worker.join(PATIENCE)


def test_max_time_ends_an_idle_worker() -> None:
    with fake_broker() as broker:
        begun = time.monotonic()
        Worker(broker.address, registry=registry, max_time=0.5).run()
        assert 0.5 <= time.monotonic() - begun < 5


def test_max_time_ends_a_worker_whose_broker_is_away() -> None:
    with fake_broker() as broker:
        pass
    begun = time.monotonic()
    with working(broker, registry, max_time=0.5) as worker:
        assert worker.join(PATIENCE), "it goes on trying"
        assert 0.5 <= time.monotonic() - begun < 5


def test_max_time_and_stop_end_a_worker_whose_broker_accepts_and_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        begun = time.monotonic()
        limited = Worker(address, registry=registry, max_time=0.5)
        stopped = Worker(address, registry=registry)
        with limited, stopped:
            assert limited.join(PATIENCE), "it goes on waiting"
            stopped.stop()
        assert time.monotonic() - begun < 10


def test_a_job_that_runs_when_max_time_is_over_during_an_outage_is_settled_afterwards() -> None:
    with (
        fake_broker() as broker,
        working(broker, registry, max_time=2, concurrency=2) as worker,
    ):
        running = broker.add("wait_for_it")
        assert started.acquire(timeout=PATIENCE)
        parked(broker)
        broker.stop()
        assert not worker.join(timeout=2.5)
        go_on.set()
        broker.start()
        assert worker.join(PATIENCE)
        broker.ack(running)


def test_max_time_ends_a_worker_whose_slots_are_taken() -> None:
    with (
        fake_broker() as broker,
        working(broker, registry, max_time=2, concurrency=1) as worker,
    ):
        running = broker.add("wait_for_it")
        assert started.acquire(timeout=PATIENCE)
        waiting = broker.add("quick")
        assert not worker.join(timeout=2.2)
        go_on.set()
        assert worker.join(PATIENCE)
        assert broker.is_settled(running)
        assert not broker.was_granted(waiting)


@both_pools
def test_run_once_takes_one_job_and_says_whether_there_was_one(pool: PoolName) -> None:
    with fake_broker() as broker:
        worker = Worker(broker.address, registry=registry, pool=pool, concurrency=8)
        assert worker.run_once() == 0
        first, second = broker.add("quick"), broker.add("quick")
        assert worker.run_once() == 1
        assert broker.is_settled(first)
        assert not broker.was_granted(second)
        assert worker.run_once() == 1
        assert broker.is_settled(second)
        assert worker.run_once() == 0
        assert all(not request.wait.ToNanoseconds() for request in broker.reserves)
    assert worker.stats.processed == 2


def test_run_once_counts_no_job_that_it_gave_back() -> None:
    with fake_broker() as broker:
        unknown = broker.add("Unknown")
        worker = Worker(broker.address, registry=registry)
        assert worker.run_once() == 0
        assert broker.nack(unknown).WhichOneof("action") == "release"


def test_run_once_without_a_broker_is_an_error() -> None:
    with fake_broker() as broker:
        pass
    with pytest.raises(BrokerUnavailable):
        Worker(broker.address, registry=registry).run_once()


@pytest.mark.parametrize("type", ["Unknown", "RunsElsewhere"])
def test_a_job_of_unknown_type_is_given_back_and_rests_longer_each_time(type: str) -> None:
    heard = Heard()
    with fake_broker() as broker, working(broker, registry, heard, concurrency=1):
        delays = []
        for _ in range(7):
            nack = broker.nack(broker.add(type))
            assert nack.failure.type == "UnknownJobType"
            assert type in nack.failure.message
            delays.append(nack.release.delay.ToSeconds())
        assert delays == [5, 10, 20, 40, 60, 60, 60]
        assert broker.nack(broker.add("AnotherOne")).release.delay.ToSeconds() == 5
        broker.ack(broker.add("quick"))
    assert [each for each in heard.errors if not isinstance(each, UnknownJobType)] == []
    assert len(heard.errors) == 8
    assert not heard.job_errors


def test_a_type_without_handle_is_told_from_one_that_is_not_imported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with fake_broker() as broker, working(broker, registry):
        unknown = broker.nack(broker.add("Unknown")).failure.message
        no_handle = broker.nack(broker.add("RunsElsewhere")).failure.message
    assert unknown == (
        "this worker knows no job type 'Unknown': import the module that defines it in the "
        "worker, or let another worker take queue 'default'"
    )
    assert no_handle == (
        "RunsElsewhere, of job type 'RunsElsewhere', has no handle(): give it one, or let another "
        "worker take queue 'default'"
    )
    assert "unknown job type Unknown (job" in caplog.text
    assert "no handle() in the class of RunsElsewhere (job" in caplog.text


def test_a_broker_that_answers_empty_at_once_is_not_asked_without_pause() -> None:
    class Draining(FakeBroker):
        def Reserve(self, request, context):  # type: ignore[no-untyped-def] # noqa: N802
            request.ClearField("wait")
            return super().Reserve(request, context)

    broker = Draining()
    broker.start()
    begun = time.monotonic()
    try:
        with working(broker, registry):
            broker.wait_for(lambda: len(broker.reserves) >= 8)
            took = time.monotonic() - begun
    finally:
        broker.stop()
    # (An answer that took so long on its way needs no pause after it.)
    assert took > 7 * EMPTY_PAUSE


def test_happenings_inside_a_handler_know_their_job() -> None:
    seen = []
    done = threading.Event()

    @job(type="look", registry=(own := Registry()))
    def look() -> None:
        seen.append(current_job())
        done.set()

    with fake_broker() as broker, working(broker, own):
        job_id = broker.add("look", headers={"trace": "abc"}, attempt=3)
        happens(done)
        broker.ack(job_id)
    [context] = seen
    assert (context.id, context.type, context.queue) == (job_id, "look", "default")
    assert context.attempt == 3
    assert dict(context.headers) == {"trace": "abc"}
    assert context.lease_token not in repr(context)
