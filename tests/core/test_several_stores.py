"""One broker over several stores: each queue is at home in one of them."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from tests.contract.shared_memory import Server, SharedDriver
from tests.core.factories import job, reserve
from tests.core.manual_clock import ManualClock, come_to_rest
from tests.support.faulty_driver import FaultyDriver
from towline_broker.core.broker import Broker
from towline_broker.core.calls import AckCall, HeartbeatItem, LeaseOutcome, NackCall, RetryAfter
from towline_broker.core.routing import Routes
from towline_broker.domain.errors import (
    InvalidField,
    JobNotFound,
    QueueMoved,
    QueueNotFound,
    StoreRefused,
    StoreUnavailable,
)
from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import MINUTE, SECOND
from towline_broker.drivers.interface import (
    CancelOutcome,
    DeadFilter,
    DeadQuery,
    Driver,
    JobQuery,
    PushOutcome,
)
from towline_broker.drivers.registry import create_driver

ROUTES = Routes(exact={"reports": "second"})


@pytest.fixture
def first() -> FaultyDriver:
    return FaultyDriver()


@pytest.fixture
def second() -> FaultyDriver:
    return FaultyDriver()


@pytest.fixture
async def broker(
    clock: ManualClock, first: FaultyDriver, second: FaultyDriver
) -> AsyncIterator[Broker]:
    broker = Broker({"default": first.driver, "second": second.driver}, ROUTES, clock=clock)
    await broker.start()
    yield broker
    await broker.stop()


async def push(broker: Broker, *queues: str) -> list[str]:
    """One job for each; returns their ids."""
    ids = []
    for queue in queues:
        (result,) = await broker.jobs.push([job(queue)])
        assert result.outcome is PushOutcome.CREATED
        ids.append(result.job_id)
    return ids


async def depth_of(driver: FaultyDriver) -> int:
    return sum(counts.depth.live for counts in await driver.driver.counts())


async def test_a_job_is_stored_where_its_queue_is_at_home(
    broker: Broker, first: FaultyDriver, second: FaultyDriver
) -> None:
    await push(broker, "emails", "reports", "reports")
    assert (await depth_of(first), await depth_of(second)) == (1, 2)


async def test_jobs_that_go_together_must_go_to_one_store(
    broker: Broker, first: FaultyDriver
) -> None:
    with pytest.raises(InvalidField, match="second") as failure:
        await broker.jobs.push([job("emails"), job("emails"), job("reports")])
    assert failure.value.field == "jobs[2].queue"
    assert await depth_of(first) == 0


async def test_jobs_that_need_not_go_together_go_to_several_stores(
    broker: Broker, first: FaultyDriver, second: FaultyDriver
) -> None:
    jobs = [job("reports"), job("emails"), job("reports")]
    results = await broker.jobs.push(jobs, all_or_nothing=False)
    assert [result.job_id for result in results] == [each.id for each in jobs]
    assert (await depth_of(first), await depth_of(second)) == (1, 2)


@pytest.mark.parametrize("queues", [("emails", "reports"), ("reports", "emails")])
async def test_one_reserve_takes_from_several_stores_in_the_order_of_its_queues(
    broker: Broker, queues: tuple[str, ...]
) -> None:
    await push(broker, "emails", "reports", "emails", "reports")
    leases = await broker.leasing.reserve(reserve(*queues, max_jobs=3))
    assert [leased.ref.queue for leased in leases] == [queues[0], queues[0], queues[1]]


async def test_p3_a_repeated_reserve_gets_its_leases_from_all_stores_and_no_other(
    broker: Broker,
) -> None:
    await push(broker, "reports")
    call = reserve("emails", "reports", max_jobs=10, request_id="r1", worker_id="w1")
    before = await broker.leasing.reserve(call)
    await push(broker, "emails", "reports")
    again = await broker.leasing.reserve(call)
    assert [leased.ref for leased in again] == [leased.ref for leased in before]


async def test_p2_no_lease_is_granted_twice_where_queues_of_two_stores_take_turns(
    broker: Broker,
) -> None:
    ids = await push(broker, "emails", "reports", "alerts")
    call = reserve("emails", "reports", "alerts", max_jobs=10, request_id="r1", worker_id="w1")
    leases = await broker.leasing.reserve(call)
    assert [leased.ref.job_id for leased in leases] == ids[:2]
    again = await broker.leasing.reserve(call)
    assert [leased.ref for leased in again] == [leased.ref for leased in leases]
    rest = await broker.leasing.reserve(replace(call, request_id="r2"))
    assert [leased.ref.job_id for leased in rest] == ids[2:]


async def test_p8_what_such_a_reserve_leaves_lying_goes_to_the_next_who_waits(
    broker: Broker,
) -> None:
    call = reserve("emails", "reports", "alerts", max_jobs=2, wait=MINUTE, request_id="r1")
    first = asyncio.create_task(broker.leasing.reserve(call))
    await come_to_rest()
    second = asyncio.create_task(broker.leasing.reserve(reserve("alerts", wait=MINUTE)))
    await come_to_rest()
    await broker.jobs.push([job("alerts"), job("emails")])  # the first is woken for both
    await come_to_rest()
    assert [leased.ref.queue for leased in [*await first, *await second]] == ["emails", "alerts"]


async def test_p3_a_store_that_is_down_stops_no_reserve_with_a_request_id(
    broker: Broker, second: FaultyDriver
) -> None:
    await push(broker, "reports", "emails")
    call = reserve("reports", "emails", max_jobs=9, request_id="r1", worker_id="w1")
    second.errors["reserve"] = StoreUnavailable("it is down")
    for _ in range(2):  # the second time as a repeat
        assert [leased.ref.queue for leased in await broker.leasing.reserve(call)] == ["emails"]
    assert await broker.leasing.reserve(replace(call, request_id="r2")) == []


async def test_p9_a_defect_of_one_store_leaves_no_lease_of_another_lying(
    broker: Broker, second: FaultyDriver
) -> None:
    await push(broker, "emails", "reports")
    second.errors["reserve"] = RuntimeError("a defect")
    (leased,) = await broker.leasing.reserve(reserve("emails", "reports", max_jobs=2))
    assert leased.ref.queue == "emails"
    with pytest.raises(RuntimeError):
        await broker.leasing.reserve(reserve("reports"))


async def test_p9_a_repeat_that_overtakes_the_first_call_leaves_no_lease_of_it_lying(
    broker: Broker, first: FaultyDriver, second: FaultyDriver
) -> None:
    await push(broker, "emails", "reports")
    call = reserve("emails", "reports", max_jobs=9, request_id="r1", worker_id="w1")
    first.hold("reserve")
    lost = asyncio.create_task(broker.leasing.reserve(call))
    await first.reached["reserve"].wait()  # asked for what was granted before
    before = first.gates["reserve"]
    first.hold("reserve")
    before.set()
    await first.reached["reserve"].wait()  # asked for jobs
    granted = first.gates.pop("reserve")
    (again,) = await broker.leasing.reserve(call)
    granted.set()
    await broker.leasing.give_back(await lost)
    assert again.ref.queue == "emails"
    leased = [[row.depth.leased for row in await each.driver.counts()] for each in (first, second)]
    assert leased == [[1], [0]]


async def test_a_waiting_reserve_is_woken_by_a_job_in_any_of_its_stores(broker: Broker) -> None:
    call = reserve("emails", "reports", wait=MINUTE)
    waiting = asyncio.create_task(broker.leasing.reserve(call))
    await come_to_rest()
    await push(broker, "reports")
    assert len(await waiting) == 1


async def test_settles_find_the_store_of_each_lease(broker: Broker) -> None:
    await push(broker, "emails", "reports", "emails", "reports")
    leases = await broker.leasing.reserve(reserve("emails", "reports", max_jobs=4))
    one, two, three, four = [leased.ref for leased in leases]
    answers, _ = await broker.settling.heartbeat("w1", [HeartbeatItem(one), HeartbeatItem(three)])
    assert [answer.outcome for answer in answers] == [LeaseOutcome.OK] * 2
    assert await broker.settling.ack([AckCall(three), AckCall(one)]) == [LeaseOutcome.OK] * 2
    retries = [NackCall(ref, RetryAfter(MINUTE)) for ref in (two, four)]
    assert await broker.settling.nack(retries) == [LeaseOutcome.OK] * 2
    assert await broker.settling.ack([AckCall(three)]) == [LeaseOutcome.OK]


async def test_a_settle_finds_its_lease_though_the_home_of_its_queue_changes_meanwhile(
    broker: Broker, first: FaultyDriver
) -> None:
    await push(broker, "reports")
    [leased] = await broker.leasing.reserve(reserve("reports"))
    stores = broker._stores
    # As between two looks at stores of which one has moved it and the other has not told yet.
    stores._strays["reports"] = stores.named("default")
    first.hold("ack")
    settling = asyncio.ensure_future(broker.settling.ack([AckCall(leased.ref)]))
    await first.reached["ack"].wait()
    await stores.refresh()
    assert stores.of("reports") is stores.named("second")
    first.let_go("ack")
    assert await settling == [LeaseOutcome.OK]


async def test_leases_that_could_not_be_delivered_go_back_to_every_store(broker: Broker) -> None:
    await push(broker, "emails", "reports")
    call = reserve("emails", "reports", max_jobs=2)
    await broker.leasing.give_back(await broker.leasing.reserve(call))
    leases = await broker.leasing.reserve(call)
    assert [leased.attempt for leased in leases] == [1, 1]


async def test_p8_each_store_has_its_upkeep(broker: Broker, clock: ManualClock) -> None:
    await broker.jobs.push([job("emails", delay=SECOND)])
    await broker.jobs.push([job("reports", delay=2 * SECOND)])
    call = reserve("emails", "reports", max_jobs=2)
    assert await broker.leasing.reserve(call) == []
    await clock.advance(2 * SECOND)
    assert len(await broker.leasing.reserve(call)) == 2


async def test_a_job_is_found_by_its_id_alone(broker: Broker) -> None:
    ids = await push(broker, "emails", "reports")
    assert [(await broker.jobs.get(job_id)).queue for job_id in ids] == ["emails", "reports"]
    with pytest.raises(JobNotFound):
        await broker.jobs.get("00000000-0000-4000-8000-000000000000")
    outcomes = await broker.jobs.cancel([*reversed(ids), "00000000-0000-4000-8000-000000000000"])
    expected = [CancelOutcome.CANCELLED, CancelOutcome.CANCELLED, CancelOutcome.NOT_FOUND]
    assert outcomes == expected


async def test_who_waits_for_a_job_in_any_store_hears_of_its_end(broker: Broker) -> None:
    (job_id,) = await push(broker, "reports")
    waiting = asyncio.create_task(broker.jobs.get(job_id, MINUTE))
    await come_to_rest()
    (leased,) = await broker.leasing.reserve(reserve("reports"))
    await broker.settling.ack([AckCall(leased.ref)])
    assert (await waiting).state is JobState.SUCCEEDED


async def test_pages_of_jobs_go_on_from_store_to_store(broker: Broker) -> None:
    ids = await push(broker, "emails", "reports", "emails", "reports", "emails")
    found, cursor = [], None
    while True:
        page = await broker.jobs.list_jobs(JobQuery(2, cursor=cursor))
        found += [record.id for record in page.records]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(found) == sorted(ids)
    page = await broker.jobs.list_jobs(JobQuery(5, queue="reports"))
    assert [record.id for record in page.records] == [ids[1], ids[3]]


@pytest.mark.parametrize("cursor", ["2:1", "x", "-1:", ":", "²:"])
async def test_a_page_token_of_another_broker_is_refused(broker: Broker, cursor: str) -> None:
    with pytest.raises(InvalidField, match="page_token"):
        await broker.jobs.list_jobs(JobQuery(2, cursor=cursor))


async def test_dead_jobs_of_all_stores_are_listed_requeued_and_discarded(
    broker: Broker, clock: ManualClock
) -> None:
    ids = await push(broker, "emails", "reports", "emails")
    await broker.leasing.reserve(reserve("emails", "reports", max_jobs=3, lease=SECOND))
    for _ in range(3):  # attempts, each of which loses its lease
        await clock.advance(2 * SECOND)
        await broker.leasing.reserve(reserve("emails", "reports", max_jobs=3, lease=SECOND))
    page = await broker.dead_letters.list_dead(DeadQuery(10))
    rest = await broker.dead_letters.list_dead(DeadQuery(10, cursor=page.next_cursor))
    assert sorted(each.id for each in [*page.records, *rest.records]) == sorted(ids)
    counted = await broker.dead_letters.requeue(None, DeadFilter(), 10, dry_run=True)
    assert (counted.matched, counted.handled) == (3, 0)
    some = await broker.dead_letters.requeue(None, DeadFilter(), 1, dry_run=False)
    assert (some.matched, some.handled) == (3, 1)
    rest_of = await broker.dead_letters.discard(ids, DeadFilter(), 10, dry_run=False)
    assert (rest_of.matched, rest_of.handled) == (2, 2)


async def test_figures_are_those_of_all_stores(broker: Broker, clock: ManualClock) -> None:
    await push(broker, "emails", "reports", "reports")
    await clock.advance(3 * SECOND)
    report = await broker.operating.report()
    assert (report.total.depth.ready, report.total.oldest_ready) == (3, 3 * SECOND)
    assert [(view.name, view.store) for view in report.queues] == [
        ("emails", "default"),
        ("reports", "second"),
    ]
    assert [name for name, _ in report.stores] == ["default", "second"]
    assert await broker.operating.pause("reports")
    assert (await broker.operating.purge("reports", 10, dry_run=False)).handled == 2
    await broker.operating.reset()
    assert (await broker.operating.report()).total.totals.pushed == 0
    with pytest.raises(QueueNotFound):
        await broker.operating.report(["reports", "neither"])


async def test_a_store_that_is_down_takes_no_other_along(
    broker: Broker, first: FaultyDriver
) -> None:
    await push(broker, "reports")
    first.errors["reserve"] = first.errors["push"] = StoreUnavailable("it is down")
    call = reserve("emails", "reports")
    assert len(await broker.leasing.reserve(call)) == 1
    await push(broker, "reports")
    with pytest.raises(StoreUnavailable):
        await broker.jobs.push([job("emails")])
    assert len(await broker.leasing.reserve(call)) == 1
    assert await broker.leasing.reserve(call) == []


@pytest.mark.parametrize("request_id", ["", "r1"])
@pytest.mark.parametrize("queues", [("emails", "reports"), ("reports", "emails")])
async def test_p8_a_reserve_waits_at_the_stores_that_answer_for_a_job_that_comes_later(
    broker: Broker, first: FaultyDriver, queues: tuple[str, ...], request_id: str
) -> None:
    first.errors["reserve"] = StoreUnavailable("it is down")
    call = reserve(*queues, wait=MINUTE, request_id=request_id)
    waiting = asyncio.create_task(broker.leasing.reserve(call))
    await come_to_rest()
    assert not waiting.done()
    await push(broker, "reports")
    (leased,) = await waiting
    assert leased.ref.queue == "reports"


async def test_p8_a_waiting_reserve_gets_a_job_that_its_store_told_of_while_it_gave_none(
    broker: Broker, first: FaultyDriver, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "towline.broker")
    call = reserve("emails", "reports", wait=MINUTE)
    waiting = asyncio.create_task(broker.leasing.reserve(call))
    await come_to_rest()
    first.errors["reserve"] = StoreUnavailable("it is down")
    await push(broker, "emails")
    await clock.advance(5 * SECOND)
    assert not waiting.done()
    del first.errors["reserve"]
    await clock.advance(SECOND)
    (leased,) = await waiting
    assert leased.ref.queue == "emails"
    told = [record.getMessage() for record in caplog.records if "store default" in record.message]
    assert told[0] == "store default: it gives no jobs: it is down"
    assert told[1].startswith("store default: it gives jobs again, after ")
    assert len(told) == 2


async def test_p8_a_job_that_a_waiter_was_woken_for_in_vain_goes_to_the_next_when_it_leaves(
    broker: Broker, first: FaultyDriver
) -> None:
    both = asyncio.create_task(broker.leasing.reserve(reserve("reports", "emails", wait=MINUTE)))
    await come_to_rest()
    one = asyncio.create_task(broker.leasing.reserve(reserve("emails", wait=MINUTE)))
    await come_to_rest()
    first.errors["reserve"] = StoreUnavailable("it is down")
    await push(broker, "emails")  # the first is woken for it, and cannot take it
    await come_to_rest()
    del first.errors["reserve"]
    await push(broker, "reports")  # with that one it leaves
    assert [leased.ref.queue for leased in [*await both, *await one]] == ["reports", "emails"]


@pytest.mark.parametrize("request_id", ["", "r1"])
async def test_a_reserve_is_refused_at_once_if_none_of_its_stores_answers(
    broker: Broker, first: FaultyDriver, second: FaultyDriver, request_id: str
) -> None:
    first.errors["reserve"] = second.errors["reserve"] = StoreUnavailable("it is down")
    for queues in (("emails", "reports"), ("reports", "emails", "alerts"), ("emails",)):
        call = reserve(*queues, wait=MINUTE, request_id=request_id)
        with pytest.raises(StoreUnavailable):
            await broker.leasing.reserve(call)


async def test_a_queue_stays_where_its_jobs_are_when_the_configuration_changes(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    stores = {"default": kept(), "second": kept()}
    before = Broker(stores, clock=clock)
    await before.start()
    (job_id,) = await push(before, "reports")
    await before.stop()
    with caplog.at_level(logging.WARNING, "towline.broker"):
        after = Broker(stores, ROUTES, clock=clock)
        await after.start()
    assert "towline-broker move reports --to second" in caplog.text
    (leased,) = await after.leasing.reserve(reserve("reports"))
    assert leased.ref.job_id == job_id
    await after.stop()


async def test_a_store_that_cannot_be_opened_leaves_none_open(clock: ManualClock) -> None:
    class Closing(FaultyDriver):
        closed = False

        async def close(self) -> None:
            self.closed = True

    one, two = Closing(), Closing()
    two.errors["open"] = StoreUnavailable("it is down")
    broker = Broker({"default": one.driver, "second": two.driver}, clock=clock)
    with pytest.raises(StoreUnavailable, match="second: it is down"):
        await broker.start()
    assert one.closed


def kept() -> Driver:
    """A memory store that outlives being closed."""
    return create_driver("memory:")


async def test_two_names_for_one_store_are_refused() -> None:
    server = Server()
    broker = Broker({"default": SharedDriver(server), "again": SharedDriver(server)})
    with pytest.raises(StoreRefused, match="default and again are names of one and the same store"):
        await broker.start()
    assert server.drivers == []
    assert server.notices == {}


async def test_a_queue_that_moved_to_a_store_that_is_gone_from_the_settings_is_told_of(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    stores = {name: kept() for name in ("default", "second", "third")}
    before = Broker(stores, clock=clock)
    await before.start()
    await push(before, "emails")
    while not (await before.moving.step("emails", "second", 10)).complete:
        pass
    await before.stop()
    del stores["second"]
    with caplog.at_level(logging.WARNING, "towline.broker"):
        after = Broker(stores, clock=clock)
        await after.start()
    assert "queue emails has moved to store second, which this broker does not have" in caplog.text
    with pytest.raises(QueueMoved):
        await after.jobs.push([job("emails")])
    with pytest.raises(InvalidField, match="has moved to store 'second'"):
        await after.moving.step("emails", "third", 10)
    await after.stop()
