"""Moving a queue between two stores of a broker: nothing is lost, doubled or out of order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from tests.core.factories import job, reserve
from tests.core.manual_clock import START, ManualClock, come_to_rest
from tests.support.faulty_driver import FaultyDriver
from towline_broker.core.broker import Broker
from towline_broker.core.calls import AckCall, LeaseOutcome, QueueView
from towline_broker.core.moving import MoveStep
from towline_broker.core.routing import Routes
from towline_broker.domain.errors import InvalidField, NotSupported, QueueNotFound, StoreUnavailable
from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import HOUR, MINUTE, SECOND
from towline_broker.drivers.interface import (
    CancelOutcome,
    Capabilities,
    DeadFilter,
    Driver,
    Feature,
    JobQuery,
    PushOutcome,
    Standing,
)
from towline_broker.drivers.memory import Engine, MemoryDriver
from towline_broker.drivers.registry import create_driver

STORES = ("default", "second", "third")


@pytest.fixture
def drivers() -> dict[str, FaultyDriver]:
    return {name: FaultyDriver() for name in STORES}


@pytest.fixture
async def broker(clock: ManualClock, drivers: dict[str, FaultyDriver]) -> AsyncIterator[Broker]:
    broker = Broker({name: each.driver for name, each in drivers.items()}, clock=clock)
    await broker.start()
    yield broker
    await broker.stop()


async def push(broker: Broker, count: int, queue: str = "emails") -> list[str]:
    results = await broker.jobs.push([job(queue) for _ in range(count)])
    return [result.job_id for result in results]


async def move(broker: Broker, to: str, limit: int = 2) -> int:
    """To the end; returns how many jobs were moved."""
    moved = 0
    for _ in range(100):
        step = await broker.moving.step("emails", to, limit)
        moved += step.moved
        if step.complete:
            return moved
    raise AssertionError("the move does not come to its end")


async def view(broker: Broker) -> QueueView:
    (only,) = await broker.operating.queues()
    return only


async def depths(drivers: dict[str, FaultyDriver]) -> list[int]:
    counts = [await drivers[name].driver.counts() for name in STORES]
    return [sum(row.depth.live + row.depth.dead for row in rows) for rows in counts]


async def test_p6_all_jobs_come_over_in_their_order(
    broker: Broker, drivers: dict[str, FaultyDriver]
) -> None:
    ids = await push(broker, 5)
    assert await move(broker, "second") == 5
    assert await depths(drivers) == [0, 5, 0]
    assert (await view(broker)).store == "second"
    later = await push(broker, 1)
    leases = await broker.leasing.reserve(reserve(max_jobs=10))
    assert [leased.ref.job_id for leased in leases] == [*ids, *later]
    acks = await broker.settling.ack([AckCall(leased.ref) for leased in leases])
    assert acks == [LeaseOutcome.OK] * 6


async def test_nothing_is_reserved_under_way_and_pushes_go_on(broker: Broker) -> None:
    ids = await push(broker, 3)
    step = await broker.moving.step("emails", "second", 2)
    assert step == MoveStep(moved=2, remaining=1, leased=0, complete=False)
    assert ((await view(broker)).store, (await view(broker)).moving_to) == ("default", "second")
    assert await broker.leasing.reserve(reserve(max_jobs=10)) == []
    ids += await push(broker, 2)
    await move(broker, "second")
    leases = await broker.leasing.reserve(reserve(max_jobs=10))
    assert [leased.ref.job_id for leased in leases] == ids


async def test_a_worker_that_waits_gets_its_job_when_the_move_is_complete(broker: Broker) -> None:
    await push(broker, 3)
    await broker.moving.step("emails", "second", 2)
    waiting = asyncio.create_task(broker.leasing.reserve(reserve(wait=MINUTE)))
    await come_to_rest()
    assert not waiting.done()
    await move(broker, "second")
    assert len(await waiting) == 1


async def test_the_move_waits_for_leases_and_their_settles_count(broker: Broker) -> None:
    await push(broker, 2)
    done, retried = await broker.leasing.reserve(reserve(max_jobs=2))
    step = await broker.moving.step("emails", "second", 10)
    assert step == MoveStep(moved=0, remaining=0, leased=2, complete=False)
    assert await broker.settling.ack([AckCall(done.ref)]) == [LeaseOutcome.OK]
    await broker.leasing.give_back([retried])
    assert await move(broker, "second") == 1
    # P3: the settle memory of the old store is still asked.
    assert await broker.settling.ack([AckCall(done.ref)]) == [LeaseOutcome.OK]
    assert (await broker.jobs.get(done.ref.job_id)).state is JobState.SUCCEEDED
    (leased,) = await broker.leasing.reserve(reserve())
    assert (leased.ref.job_id, leased.attempt) == (retried.ref.job_id, 1)


async def test_scheduled_and_dead_jobs_come_too(broker: Broker, clock: ManualClock) -> None:
    await broker.jobs.push([job(delay=HOUR), job(expires_in=SECOND)])
    await clock.advance(2 * SECOND)
    assert await move(broker, "second") == 2
    figures = (await view(broker)).figures
    assert (figures.depth.scheduled, figures.depth.dead) == (1, 1)
    await clock.advance(HOUR)
    assert len(await broker.leasing.reserve(reserve())) == 1


@pytest.mark.parametrize("method", ["outgoing", "receive", "drop", "seal", "forward"])
async def test_a_move_that_was_cut_off_goes_on_where_it_was(
    broker: Broker, drivers: dict[str, FaultyDriver], method: str
) -> None:
    ids = await push(broker, 3)
    failing = drivers["second" if method == "receive" else "default"]
    failing.errors[method] = StoreUnavailable("it is down")
    with pytest.raises(StoreUnavailable):
        await move(broker, "second")
    del failing.errors[method]
    await move(broker, "second")
    leases = await broker.leasing.reserve(reserve(max_jobs=10))
    assert [leased.ref.job_id for leased in leases] == ids
    assert await depths(drivers) == [0, 3, 0]


async def test_a_move_can_be_turned_round(broker: Broker, drivers: dict[str, FaultyDriver]) -> None:
    ids = await push(broker, 5)
    await broker.moving.step("emails", "second", 3)
    await move(broker, "default")
    assert await depths(drivers) == [5, 0, 0]
    assert ((await view(broker)).store, (await view(broker)).moving_to) == ("default", "")
    leases = await broker.leasing.reserve(reserve(max_jobs=10))
    assert sorted(leased.ref.job_id for leased in leases) == sorted(ids)


async def test_there_and_back_and_on_to_a_third_store(
    broker: Broker, drivers: dict[str, FaultyDriver]
) -> None:
    ids = await push(broker, 3)
    for store in ("second", "default", "third", "second", "default"):
        await move(broker, store)
        assert (await view(broker)).store == store
        ids += await push(broker, 1)
    leases = await broker.leasing.reserve(reserve(max_jobs=10))
    assert [leased.ref.job_id for leased in leases] == ids


async def test_a_move_turned_round_far_from_home_stays_there(broker: Broker) -> None:
    await push(broker, 3)
    await move(broker, "second")
    await broker.moving.step("emails", "default", 2)
    await move(broker, "second")
    assert (await view(broker)).store == "second"
    assert len(await broker.leasing.reserve(reserve(max_jobs=10))) == 3


async def test_a_move_to_where_the_queue_is_has_nothing_to_do(broker: Broker) -> None:
    await push(broker, 1)
    assert await broker.moving.step("emails", "default", 10) == MoveStep(0, 0, 0, complete=True)


async def test_wrong_moves_are_refused(broker: Broker) -> None:
    with pytest.raises(QueueNotFound):
        await broker.moving.step("emails", "second", 10)
    await push(broker, 3)
    with pytest.raises(InvalidField, match="it has default, second, third"):
        await broker.moving.step("emails", "fourth", 10)
    await broker.moving.step("emails", "second", 1)
    with pytest.raises(InvalidField, match="on its way from 'default' to 'second'"):
        await broker.moving.step("emails", "third", 1)


async def test_a_queue_is_not_sealed_for_a_store_that_cannot_take_it(clock: ManualClock) -> None:
    class Unmovable(MemoryDriver):
        @property
        def capabilities(self) -> Capabilities:
            return replace(super().capabilities, missing=frozenset({Feature.TRANSFER}))

    stores = {"default": create_driver("memory:"), "second": Unmovable(Engine())}
    broker = Broker(stores, clock=clock)
    await broker.start()
    (job_id,) = await push(broker, 1)
    with pytest.raises(NotSupported):
        await broker.moving.step("emails", "second", 10)
    assert (await view(broker)).moving_to == ""
    (leased,) = await broker.leasing.reserve(reserve())
    assert leased.ref.job_id == job_id
    await broker.stop()


async def test_another_broker_follows_a_move_that_it_did_not_make(
    clock: ManualClock, drivers: dict[str, FaultyDriver], broker: Broker
) -> None:
    """Both use the same stores, as brokers do that share them."""
    other = Broker({name: each.driver for name, each in drivers.items()}, clock=clock)
    await other.moving.look()
    ids = await push(broker, 2)
    await move(broker, "second")
    ids += await push(other, 1)  # it still thinks that the queue is where it was
    leases = await broker.leasing.reserve(reserve(max_jobs=10))
    assert [leased.ref.job_id for leased in leases] == ids


@pytest.mark.parametrize("trouble", ["is down", "hangs"])
async def test_p8_a_store_in_trouble_keeps_no_news_of_the_others_from_a_broker(
    broker: Broker, drivers: dict[str, FaultyDriver], trouble: str
) -> None:
    (job_id,) = await push(broker, 1)
    if trouble == "hangs":
        drivers["third"].hold("queues")
    else:
        drivers["third"].errors["queues"] = StoreUnavailable("it is down")
    await move_by_another_broker(drivers["default"].driver, drivers["second"].driver)
    waiting = asyncio.create_task(broker.leasing.reserve(reserve(wait=MINUTE)))
    (leased,) = await asyncio.wait_for(waiting, 10)
    assert leased.ref.job_id == job_id
    if trouble == "hangs":
        drivers["third"].let_go("queues")


async def move_by_another_broker(source: Driver, target: Driver) -> None:
    await source.seal("emails", "second")
    await target.seal("emails", None)
    transfers = await source.outgoing("emails", 10)
    await target.receive(transfers, START)
    assert await source.drop("emails", [Standing.of(one.record) for one in transfers]) == []
    assert await source.forward("emails")


async def test_a_push_follows_a_queue_that_moved_on_twice(
    broker: Broker, drivers: dict[str, FaultyDriver], clock: ManualClock
) -> None:
    other = Broker({name: each.driver for name, each in drivers.items()}, clock=clock)
    await other.moving.look()
    await push(broker, 1)
    await move(broker, "second")
    await move(broker, "third")
    await push(other, 1)  # it still thinks that the queue is where it was
    assert await depths(drivers) == [0, 0, 2]


async def test_jobs_left_behind_by_a_change_of_the_configuration_can_be_fetched(
    clock: ManualClock, drivers: dict[str, FaultyDriver], broker: Broker
) -> None:
    old = await push(broker, 2)
    # Somebody used the second store for the queue before.
    routes = Routes(exact={"emails": "second"})
    other = Broker({name: each.driver for name, each in drivers.items()}, routes, clock=clock)
    new = await push(other, 1)
    assert sum(await depths(drivers)) == 3
    await other.moving.look()
    await move(other, "second")
    leases = await other.leasing.reserve(reserve(max_jobs=10))
    assert sorted(leased.ref.job_id for leased in leases) == sorted([*old, *new])


async def test_p3_a_push_repeated_after_the_move_of_its_queue_stores_nothing(
    broker: Broker, drivers: dict[str, FaultyDriver], clock: ManualClock
) -> None:
    done, waiting, new = job(), job(), job()
    await broker.jobs.push([done, waiting])
    (leased,) = await broker.leasing.reserve(reserve())
    await broker.settling.ack([AckCall(leased.ref)])
    await move(broker, "second")
    results = await broker.jobs.push([new, done, waiting])
    assert [(result.job_id, result.outcome) for result in results] == [
        (new.id, PushOutcome.CREATED),
        (done.id, PushOutcome.EXISTING),
        (waiting.id, PushOutcome.EXISTING),
    ]
    assert await depths(drivers) == [0, 2, 0]
    await clock.advance(11 * MINUTE)  # P4: that is as long as it is remembered
    (result,) = await broker.jobs.push([done])
    assert result.outcome is PushOutcome.CREATED


async def test_a_job_that_is_cancelled_on_its_way_stays_cancelled(
    broker: Broker, drivers: dict[str, FaultyDriver]
) -> None:
    cancelled, other = await push(broker, 2)
    drivers["second"].hold("receive")
    moving = asyncio.create_task(move(broker, "second"))
    await drivers["second"].reached["receive"].wait()
    assert await broker.jobs.cancel([cancelled]) == [CancelOutcome.CANCELLED]
    drivers["second"].let_go("receive")
    await moving
    leases = await broker.leasing.reserve(reserve(max_jobs=10))
    assert [leased.ref.job_id for leased in leases] == [other]


@pytest.mark.parametrize("moment", ["outgoing", "receive"])
@pytest.mark.parametrize("retention", [0, HOUR])
async def test_p3_a_job_cancelled_at_any_moment_of_its_way_is_cancelled_when_it_arrives(
    broker: Broker, drivers: dict[str, FaultyDriver], moment: str, retention: int
) -> None:
    cancelled, other = replace(job(), retention=retention), job()
    await broker.jobs.push([cancelled, other])
    async with stopped_at(broker, drivers, moment):
        assert await broker.jobs.cancel([cancelled.id]) == [CancelOutcome.CANCELLED]
    leases = await broker.leasing.reserve(reserve(max_jobs=10))
    assert [leased.ref.job_id for leased in leases] == [other.id]
    assert (await broker.jobs.get(cancelled.id)).state is JobState.CANCELLED


@pytest.mark.parametrize("moment", ["outgoing", "receive"])
async def test_p7_a_dead_job_requeued_at_any_moment_of_its_way_is_ready_when_it_arrives(
    broker: Broker, drivers: dict[str, FaultyDriver], clock: ManualClock, moment: str
) -> None:
    await broker.jobs.push([dead := job(expires_in=SECOND)])
    await clock.advance(2 * SECOND)
    async with stopped_at(broker, drivers, moment):
        assert (await broker.dead_letters.requeue([dead.id], DeadFilter(), 10, False)).handled
    leases = await broker.leasing.reserve(reserve(max_jobs=10))
    assert [leased.ref.job_id for leased in leases] == [dead.id]


@pytest.mark.parametrize("moment", ["outgoing", "receive"])
async def test_p6_a_job_whose_time_comes_on_its_way_arrives_once(
    broker: Broker, drivers: dict[str, FaultyDriver], clock: ManualClock, moment: str
) -> None:
    await broker.jobs.push([delayed := job(delay=SECOND)])
    async with stopped_at(broker, drivers, moment):
        await clock.advance(2 * SECOND)
    leases = await broker.leasing.reserve(reserve(max_jobs=10))
    assert [leased.ref.job_id for leased in leases] == [delayed.id]
    assert await depths(drivers) == [0, 1, 0]


@asynccontextmanager
async def stopped_at(
    broker: Broker, drivers: dict[str, FaultyDriver], moment: str
) -> AsyncIterator[None]:
    """While a batch is under way: it was read, or it is in both stores. Then the move goes on."""
    holding = drivers["second" if moment == "receive" else "default"]
    holding.hold(moment)
    moving = asyncio.create_task(move(broker, "second"))
    await holding.reached[moment].wait()
    yield
    holding.let_go(moment)
    await moving


async def cut_off(broker: Broker, drivers: dict[str, FaultyDriver]) -> None:
    """The broker is lost between receiving jobs and dropping them: they are in both stores."""
    drivers["default"].errors["drop"] = StoreUnavailable("it is down")
    with pytest.raises(StoreUnavailable):
        await broker.moving.step("emails", "second", 10)
    del drivers["default"].errors["drop"]


async def test_what_is_cancelled_while_a_move_is_cut_off_stays_cancelled(
    broker: Broker, drivers: dict[str, FaultyDriver]
) -> None:
    (job_id,) = await push(broker, 1)
    await cut_off(broker, drivers)
    assert await broker.jobs.cancel([job_id]) == [CancelOutcome.CANCELLED]
    await move(broker, "second")
    assert await broker.leasing.reserve(reserve()) == []
    assert (await broker.jobs.get(job_id)).state is JobState.CANCELLED


async def test_what_is_purged_while_a_move_is_cut_off_stays_away(
    broker: Broker, drivers: dict[str, FaultyDriver]
) -> None:
    await push(broker, 1)
    await cut_off(broker, drivers)
    await broker.operating.purge("emails", 10, dry_run=False)
    await move(broker, "second")
    assert await broker.leasing.reserve(reserve()) == []


async def test_lists_and_a_purge_under_way_are_about_both_stores(
    broker: Broker, drivers: dict[str, FaultyDriver]
) -> None:
    ids = await push(broker, 5)
    await broker.moving.step("emails", "second", 2)
    listed, cursor = [], None
    while True:
        page = await broker.jobs.list_jobs(JobQuery(10, cursor=cursor, queue="emails"))
        listed += [record.id for record in page.records]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(listed) == sorted(ids)
    assert (await broker.operating.purge("emails", 10, dry_run=True)).matched == 5
    some = await broker.operating.purge("emails", 3, dry_run=False)
    assert (some.matched, some.handled) == (5, 3)
    assert (await broker.operating.purge("emails", 10, dry_run=False)).handled == 2
    assert sum(await depths(drivers)) == 0


@pytest.mark.parametrize("moment", ["before", "under way"])
async def test_a_queue_that_is_paused_is_so_after_its_move(broker: Broker, moment: str) -> None:
    await push(broker, 5)
    if moment == "before":
        await broker.operating.pause("emails")
    await broker.moving.step("emails", "second", 2)
    if moment == "under way":
        await broker.operating.pause("emails")
    await move(broker, "second")
    assert (await view(broker)).paused
    assert await broker.leasing.reserve(reserve()) == []
    await broker.operating.resume("emails")
    await move(broker, "default")
    assert len(await broker.leasing.reserve(reserve(max_jobs=10))) == 5


async def test_looking_after_many_queues_that_have_moved_asks_each_store_once(
    broker: Broker, drivers: dict[str, FaultyDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await push(broker, 1, f"q{number}")
        assert (await broker.moving.step(f"q{number}", "second", 2)).complete
    asked, counts = 0, drivers["default"].driver.counts

    async def counted() -> object:
        nonlocal asked
        asked += 1
        return await counts()

    monkeypatch.setattr(drivers["default"], "counts", counted, raising=False)
    await broker.moving.round("default")
    assert asked == 1
