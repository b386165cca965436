"""Jobs that a worker holds ahead of its free slots: short ones, for a moment, at no one's cost."""

import threading
import time
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest

from tests.sdk.fake_broker import PATIENCE, FakeBroker
from tests.sdk.running import Heard, both_pools, fake_broker, working
from towline import context as contexts
from towline.jobs import job
from towline.registry import Registry
from towline.v1.queue_service_pb2 import LeaseOutcome, WorkerDirective
from towline.worker import session, slots
from towline.worker.intake import Intake
from towline.worker.options import PoolName
from towline.worker.plenty import Plenty

registry = Registry()
started = threading.Semaphore(0)
go_on = threading.Event()
left_behind: ContextVar[str] = ContextVar("left_behind", default="nothing")
left_by_callback: ContextVar[str] = ContextVar("left_by_callback", default="nothing")
found: list[str] = []


@job(registry=registry)
def quick() -> None:
    pass


@job(registry=registry)
def wait_for_it() -> None:
    started.release()
    assert go_on.wait(PATIENCE)


@job(registry=registry)
def leave_something() -> None:
    found.append(left_behind.get())
    left_behind.set("something")


@job(registry=registry, type="leave_something_async")
async def leave_something_async() -> None:
    found.append(left_behind.get())
    left_behind.set("something")


@pytest.fixture(autouse=True)
def _fresh_events() -> None:
    global started
    started = threading.Semaphore(0)
    go_on.clear()
    found.clear()


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the end of the first job on, as many are held ahead as may be, however slow all is."""
    monkeypatch.setattr(slots, "AHEAD", 1e6)
    monkeypatch.setattr(slots, "OVERDUE", PATIENCE)


def held_behind_a_long_one(broker: FakeBroker) -> tuple[str, list[str]]:
    """Of a worker with one slot: the job that has it, and those that wait in the worker."""
    broker.add("quick")  # by which it knows how long jobs take
    runs = broker.add("wait_for_it")
    waiting = [broker.add("quick") for _ in range(20)]
    assert started.acquire(timeout=PATIENCE)
    broker.wait_for(lambda: all(broker.was_granted(each) for each in waiting))
    return runs, waiting


def released(broker: FakeBroker, waiting: list[str]) -> None:
    for each in waiting:
        assert broker.nack(each).WhichOneof("action") == "release"


@both_pools
def test_short_jobs_are_asked_for_ahead(pool: PoolName, ahead: None) -> None:
    with fake_broker() as broker:
        jobs = [broker.add("quick") for _ in range(300)]
        with working(broker, registry, pool=pool, concurrency=2, prefetch=100) as worker:
            for each in jobs:
                broker.ack(each)
            worker.stop()
        assert worker.stats.processed == 300
        # Some of those for slots that are free at that moment.
        assert 100 <= max(request.max_jobs for request in broker.reserves) <= 102


@both_pools
def test_a_worker_without_prefetch_takes_what_it_has_slots_for(pool: PoolName, ahead: None) -> None:
    with fake_broker() as broker:
        jobs = [broker.add("quick") for _ in range(50)]
        with working(broker, registry, pool=pool, concurrency=2, prefetch=0):
            for each in jobs:
                broker.ack(each)
        assert max(request.max_jobs for request in broker.reserves) == 2


def test_jobs_that_last_are_not_held_ahead() -> None:
    standing = slots.Slots(4, 250)
    assert standing.standing().ahead == 0, "nothing is known of how long jobs take"
    for usual, expected in ((1.0, 0), (0.1, 1), (0.01, 10), (0.0001, 250)):
        standing._usual = usual
        assert standing.standing().ahead == expected


def test_one_job_that_was_kept_waiting_says_little_of_the_others_and_many_say_all() -> None:
    def lasted(seconds: float) -> None:
        attempt: Any = SimpleNamespace()
        standing.put([attempt])
        attempt.since = time.monotonic() - seconds
        standing.end(attempt)

    standing = slots.Slots(8, 250)
    standing._usual = 0.0001
    lasted(5)
    assert standing.standing().ahead == 250
    for _ in range(20):
        lasted(5)
    assert standing.standing().ahead == 0


@both_pools
def test_what_waits_in_a_worker_that_stops_is_given_back_at_once(
    pool: PoolName, ahead: None
) -> None:
    with fake_broker() as broker, working(broker, registry, pool=pool, concurrency=1) as worker:
        runs, waiting = held_behind_a_long_one(broker)
        worker.stop(wait=False)
        released(broker, waiting)
        assert not broker.is_settled(runs)
        go_on.set()
        broker.ack(runs)
        worker.join()
    assert worker.stats.processed == 2
    assert worker.stats.released == 20


def test_what_waits_behind_longer_jobs_than_before_is_given_back_to_other_workers(
    ahead: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "OVERDUE", 0.2)
    with fake_broker() as broker, working(broker, registry, concurrency=1) as worker:
        runs, waiting = held_behind_a_long_one(broker)
        released(broker, waiting)
        later = broker.add("quick")
        go_on.set()
        broker.ack(runs)
        broker.ack(later)
    assert worker.stats.released == 20


def test_a_worker_that_is_to_be_quiet_gives_back_what_waits(ahead: None) -> None:
    with fake_broker() as broker, working(broker, registry, concurrency=1, lease=1):
        runs, waiting = held_behind_a_long_one(broker)
        broker.directive = WorkerDirective.WORKER_DIRECTIVE_QUIET
        released(broker, waiting)
        assert not broker.is_settled(runs)
        go_on.set()
        broker.ack(runs)


@both_pools
def test_what_waits_keeps_its_lease_and_is_not_begun_once_that_is_lost(
    pool: PoolName, ahead: None
) -> None:
    heard = Heard()
    with (
        fake_broker() as broker,
        working(broker, registry, heard, pool=pool, concurrency=1, lease=1) as worker,
    ):
        runs, [lost, *others] = held_behind_a_long_one(broker)
        broker.wait_for(lambda: broker.heartbeats_of(lost) and broker.heartbeats_of(others[-1]))
        broker.set_outcome(lost, LeaseOutcome.LEASE_OUTCOME_LEASE_LOST)
        heard.wait_for(lambda: heard.errors)
        go_on.set()
        for each in (runs, *others):
            broker.ack(each)
        worker.stop()
    assert len(heard.started) == 2 + len(others)
    assert worker.stats.lost == 1


@both_pools
def test_any_number_of_jobs_that_cannot_begin_follow_each_other(
    pool: PoolName, ahead: None
) -> None:
    with fake_broker() as broker:
        broker.add("quick")
        broken = [broker.add("quick", b"no payload") for _ in range(1001)]
        with working(broker, registry, pool=pool, concurrency=1, prefetch=1000):
            for each in broken:
                assert broker.nack(each).WhichOneof("action") == "dead_letter"


@pytest.mark.parametrize(
    ("pool", "type"),
    [
        ("thread", "leave_something"),
        ("async", "leave_something"),
        ("async", "leave_something_async"),
    ],
)
def test_a_job_leaves_nothing_to_the_one_that_has_its_slot_next(
    pool: PoolName, type: str, ahead: None
) -> None:
    def leave(_: object) -> None:
        found.append(left_by_callback.get())
        left_by_callback.set("something")
        assert contexts.current_job().type == type

    with fake_broker() as broker:
        jobs = [broker.add(type) for _ in range(20)]
        with working(broker, registry, pool=pool, concurrency=1, on_job_start=leave):
            for each in jobs:
                broker.ack(each)
    assert found == ["nothing"] * 40


def test_a_worker_whose_jobs_are_over_before_it_asks_again_asks_for_many_all_the_same() -> None:
    """Else it would go on with a job a slot at a time, each with a call of its own."""
    options: Any = SimpleNamespace(
        concurrency=8,
        prefetch=100,
        wait=20.0,
        stop_when_empty=False,
        max_jobs=None,
        types=None,
        max_attempts=None,
        default_timeout=None,
    )
    table: Any = SimpleNamespace(room=lambda most: most)
    reserver: Any = SimpleNamespace(holds=[])
    none: Any = None
    intake = Intake(
        *(options, none, none, none, table, reserver, none, none, none, none, none), once=False
    )
    assert intake.wanted() == (8, 20.0, False)
    intake.slots._usual = 0.0001
    assert intake.wanted() == (8, 20.0, False), "nobody knows that there are more"
    intake._plenty.likely = True
    assert intake.wanted() == (108, 0.0, True)


def test_questions_for_more_that_are_in_vain_become_rare() -> None:
    """One slot, and one job at a time: each answer is as full as can be."""
    plenty = Plenty()
    asked = []
    for number in range(100):
        plenty.heard(1, 1, ahead=False)
        if plenty.likely:
            asked.append(number)
            plenty.heard(0, 10, ahead=True)
    assert asked == [0, 2, 6, 14, 30, 46, 62, 78, 94]


def test_jobs_that_come_of_a_question_for_more_have_each_answer_followed_by_one() -> None:
    plenty = Plenty()
    for _ in range(3):
        plenty.heard(1, 1, ahead=False)
        plenty.heard(0, 10, ahead=True)
    while not plenty.likely:
        plenty.heard(1, 1, ahead=False)
    plenty.heard(1, 10, ahead=True)
    for _ in range(3):
        plenty.heard(1, 1, ahead=False)
        assert plenty.likely


def test_a_worker_that_has_run_dry_waits_for_jobs_without_a_pause(
    ahead: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "EMPTY_PAUSE", 1e6)
    with fake_broker() as broker, working(broker, registry, concurrency=2, prefetch=1):
        for number in range(10, 20):
            for each in [broker.add("quick") for _ in range(number)]:
                broker.ack(each)
            broker.wait_for(lambda: broker.parked == 1)


def test_a_worker_that_waits_for_jobs_asks_for_what_it_has_slots_for(ahead: None) -> None:
    with fake_broker() as broker, working(broker, registry, concurrency=2):
        for _ in range(3):
            broker.ack(broker.add("quick"))
            broker.wait_for(lambda: broker.parked == 1)
        assert all(
            request.max_jobs <= 2 for request in broker.reserves if request.wait.ToTimedelta()
        )
