"""P8: a job reaches a waiting worker without a polling delay, and wakes one worker, not all."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from msgspec.structs import replace

from tests.core.factories import job, reserve
from tests.core.manual_clock import ManualClock, come_to_rest
from towline_broker.core.broker import Broker
from towline_broker.core.calls import AckCall, LeaseOutcome
from towline_broker.core.clock import SystemClock
from towline_broker.core.settings import CoreSettings
from towline_broker.domain.errors import Draining, TooManyWaiters
from towline_broker.domain.jobs import JobState, Leased
from towline_broker.domain.time import HOUR, MINUTE, SECOND
from towline_broker.drivers.interface import Driver, ReserveRequest
from towline_broker.drivers.registry import create_driver


class CountingDriver:
    """The memory driver; counts the Reserves, and keeps their answers back until ``held`` is
    set."""

    def __init__(self) -> None:
        self._driver = create_driver("memory:")
        self.reserves = 0
        self.held = asyncio.Event()
        self.held.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def reserve(self, request: ReserveRequest) -> list[Leased]:
        self.reserves += 1
        leases = await self._driver.reserve(request)
        await self.held.wait()
        return leases


@pytest.fixture
async def driver() -> Any:
    return CountingDriver()


def parked(broker: Broker, *queues: str, max_jobs: int = 1) -> "asyncio.Task[list[Leased]]":
    return asyncio.create_task(
        broker.leasing.reserve(reserve(*queues, wait=MINUTE, max_jobs=max_jobs))
    )


async def test_a_parked_reserve_gets_the_job_the_moment_it_is_pushed(
    broker: Broker, clock: ManualClock
) -> None:
    waiting = parked(broker)
    await come_to_rest()
    before = clock.now()
    await broker.jobs.push([job()])
    assert len(await waiting) == 1
    assert clock.now() == before


async def test_one_waiter_is_woken_for_each_job_and_the_first_come_is_first_served(
    broker: Broker,
) -> None:
    waiting = []
    for _ in range(5):
        waiting.append(parked(broker))
        await come_to_rest()
    await broker.jobs.push([job(), job()])
    await come_to_rest()
    assert [task.done() for task in waiting] == [True, True, False, False, False]
    broker.drain()
    await asyncio.gather(*waiting)


async def test_a_delayed_job_wakes_the_waiter_when_it_is_due_and_not_before(
    broker: Broker, clock: ManualClock
) -> None:
    waiting = parked(broker)
    await broker.jobs.push([job(delay=10 * SECOND)])
    await clock.advance(10 * SECOND - 1)
    assert not waiting.done()
    await clock.advance(1)
    assert len(await waiting) == 1


async def test_no_job_is_left_lying_when_the_woken_waiter_is_gone(broker: Broker) -> None:
    first, second = parked(broker), parked(broker)
    await come_to_rest()
    pushing = asyncio.create_task(broker.jobs.push([job()]))
    first.cancel()
    await pushing
    assert len(await second) == 1


async def test_a_full_batch_passes_the_rest_on_to_the_next_waiter(broker: Broker) -> None:
    first, second = parked(broker, max_jobs=2), parked(broker, max_jobs=2)
    await come_to_rest()
    await broker.jobs.push([job(), job(), job()])
    assert len(await first) == 2
    assert len(await second) == 1


async def test_leases_granted_to_a_caller_that_vanished_go_back_with_their_attempt(
    driver: CountingDriver,
) -> None:
    broker = Broker(cast(Driver, driver))
    await broker.start()
    waiting = parked(broker)
    await come_to_rest()
    driver.held.clear()
    ids = [result.job_id for result in await broker.jobs.push([job()])]
    # The waiter is woken and its claim is under way: now its caller goes.
    await come_to_rest()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    driver.held.set()
    await come_to_rest()
    record = await broker.jobs.get(ids[0])
    assert (record.state, record.attempt) == (JobState.READY, 0)
    await broker.stop()


async def test_a_wait_without_work_ends_empty_at_its_end(
    broker: Broker, clock: ManualClock
) -> None:
    waiting = parked(broker)
    await clock.advance(MINUTE - 1)
    assert not waiting.done()
    await clock.advance(1)
    assert await waiting == []


async def test_listening_to_several_queues_hears_of_each(broker: Broker) -> None:
    waiting = parked(broker, "first", "second")
    await come_to_rest()
    await broker.jobs.push([job("second")])
    (leased,) = await waiting
    assert leased.ref.queue == "second"


async def test_strict_order_serves_the_first_queue_first(broker: Broker) -> None:
    await broker.jobs.push([job("second"), job("first")])
    leases = await broker.leasing.reserve(reserve("first", "second", max_jobs=2))
    assert [leased.ref.queue for leased in leases] == ["first", "second"]


async def test_a_resumed_queue_wakes_who_waits_for_it(broker: Broker) -> None:
    await broker.jobs.push([job()])
    await broker.operating.pause("emails")
    waiting = parked(broker)
    await come_to_rest()
    assert not waiting.done()
    await broker.operating.resume("emails")
    assert len(await waiting) == 1


async def test_a_repeated_reserve_gets_the_same_leases_and_sends_the_first_call_home(
    broker: Broker,
) -> None:
    call = reserve(wait=MINUTE, request_id="r1")
    first = asyncio.create_task(broker.leasing.reserve(call))
    await come_to_rest()
    second = asyncio.create_task(broker.leasing.reserve(call))
    await come_to_rest()
    assert await first == []
    await broker.jobs.push([job(), job()])
    leases = await second
    again = await broker.leasing.reserve(call)
    assert [leased.ref for leased in again] == [leased.ref for leased in leases]


async def test_two_workers_with_the_same_request_id_get_no_lease_of_each_other(
    broker: Broker,
) -> None:
    await broker.jobs.push([job(), job()])
    (one,) = await broker.leasing.reserve(reserve(request_id="r1", worker_id="w1"))
    (two,) = await broker.leasing.reserve(reserve(request_id="r1", worker_id="w2"))
    assert one.ref != two.ref


async def test_a_failed_delivery_does_not_take_back_what_a_repeat_delivered(
    broker: Broker,
) -> None:
    await broker.jobs.push([job()])
    lost = await broker.leasing.reserve(reserve(request_id="r1"))
    delivered = await broker.leasing.reserve(reserve(request_id="r1"))
    await broker.leasing.give_back(lost)
    record = await broker.jobs.get(delivered[0].ref.job_id)
    assert record.state is JobState.LEASED
    await broker.leasing.give_back(delivered)
    record = await broker.jobs.get(delivered[0].ref.job_id)
    assert (record.state, record.attempt) == (JobState.READY, 0)


async def test_a_repeat_that_is_abandoned_leaves_the_leases_to_the_first_call(
    broker: Broker,
) -> None:
    await broker.jobs.push([job()])
    call = reserve(request_id="r1")
    (leased,) = await broker.leasing.reserve(call)
    repeat = asyncio.create_task(broker.leasing.reserve(call))
    await asyncio.sleep(0)
    repeat.cancel()
    await asyncio.gather(repeat, return_exceptions=True)
    await come_to_rest()
    assert await broker.settling.ack([AckCall(leased.ref)]) == [LeaseOutcome.OK]


async def test_a_repeat_gets_no_lease_that_is_on_its_way_back(driver: CountingDriver) -> None:
    """The store still told of it, but the first call's delivery had failed before the answer."""
    broker = Broker(driver, clock=ManualClock())
    await broker.start()
    await broker.jobs.push([job()])
    lost = await broker.leasing.reserve(reserve(request_id="r1"))
    driver.held.clear()
    repeat = asyncio.create_task(broker.leasing.reserve(reserve(request_id="r1")))
    await come_to_rest()
    await broker.leasing.give_back(lost)
    driver.held.set()
    (leased,) = await repeat
    assert await broker.settling.ack([AckCall(leased.ref)]) == [LeaseOutcome.OK]
    await broker.stop()


class TestWakeUps:
    """Each one is for so many jobs of one queue, and costs the store one look."""

    @pytest.fixture
    async def broker(self, driver: CountingDriver) -> AsyncIterator[Broker]:
        broker = Broker(driver, clock=ManualClock())
        await broker.start()
        yield broker
        await broker.stop()

    async def test_a_job_wakes_one_worker_also_when_all_wait_for_many_queues(
        self, broker: Broker, driver: CountingDriver
    ) -> None:
        waiting = [parked(broker, "a", "b", "c") for _ in range(20)]
        await come_to_rest()
        driver.reserves = 0
        await broker.jobs.push([job("b")])
        await come_to_rest()
        assert [task.done() for task in waiting].count(True) == 1
        assert driver.reserves == 1
        broker.drain()
        await asyncio.gather(*waiting)

    async def test_a_wait_that_ends_empty_wakes_nobody(
        self, broker: Broker, driver: CountingDriver
    ) -> None:
        brief = asyncio.create_task(broker.leasing.reserve(reserve("a", "b", wait=SECOND)))
        patient = [parked(broker, "a", "b") for _ in range(5)]
        await come_to_rest()
        driver.reserves = 0
        clock = broker.clock
        assert isinstance(clock, ManualClock)
        await clock.advance(SECOND)
        assert await brief == []
        assert driver.reserves == 0
        broker.drain()
        await asyncio.gather(*patient)

    async def test_whoever_goes_home_with_another_job_passes_the_wake_up_on(
        self, broker: Broker
    ) -> None:
        both, only_b = parked(broker, "a", "b"), parked(broker, "b")
        await come_to_rest()
        await broker.jobs.push([job("b"), job("a")])
        await come_to_rest()
        (first,), (second,) = both.result(), only_b.result()
        assert (first.ref.queue, second.ref.queue) == ("a", "b")

    async def test_whoever_takes_no_more_bytes_passes_the_wake_up_on(self, broker: Broker) -> None:
        call = replace(reserve(wait=MINUTE, max_jobs=9), max_bytes=1)
        waiting = [asyncio.create_task(broker.leasing.reserve(call)) for _ in range(2)]
        await come_to_rest()
        await broker.jobs.push([job(), job()])
        await come_to_rest()
        assert [len(task.result()) for task in waiting] == [1, 1]

    async def test_a_job_that_comes_behind_a_claim_goes_to_the_next_in_line(
        self, broker: Broker, driver: CountingDriver
    ) -> None:
        """It wakes the first in line, whose claim is under way and has taken another job."""
        await broker.jobs.push([job()])
        driver.held.clear()
        first = parked(broker)
        await come_to_rest()
        second = parked(broker)
        await come_to_rest()
        await broker.jobs.push([job()])
        driver.held.set()
        assert len(await first) == 1
        await come_to_rest()
        assert second.done()
        assert len(await second) == 1


async def test_getting_a_job_waits_for_its_end_and_brings_the_result(broker: Broker) -> None:
    (pushed,) = await broker.jobs.push([job()])
    waiting = asyncio.create_task(broker.jobs.get(pushed.job_id, MINUTE))
    (leased,) = await broker.leasing.reserve(reserve())
    await come_to_rest()
    assert not waiting.done()
    await broker.settling.ack([AckCall(leased.ref, b"done")])
    record = await waiting
    assert (record.state, record.result) == (JobState.SUCCEEDED, b"done")


async def test_getting_a_job_shows_the_state_when_the_wait_is_over(
    broker: Broker, clock: ManualClock
) -> None:
    (pushed,) = await broker.jobs.push([job()])
    waiting = asyncio.create_task(broker.jobs.get(pushed.job_id, MINUTE))
    await clock.advance(MINUTE)
    assert (await waiting).state is JobState.READY


async def test_draining_answers_parked_calls_and_refuses_new_work_but_settles(
    broker: Broker,
) -> None:
    (pushed, _) = await broker.jobs.push([job(), job("other")])
    (leased,) = await broker.leasing.reserve(reserve())
    waiting = parked(broker)
    watching = asyncio.create_task(broker.jobs.get(pushed.job_id, MINUTE))
    await come_to_rest()
    broker.drain()
    assert await waiting == []
    assert (await watching).state is JobState.LEASED
    with pytest.raises(Draining):
        await broker.jobs.push([job()])
    with pytest.raises(Draining):
        await broker.leasing.reserve(reserve("other"))
    assert await broker.settling.ack([AckCall(leased.ref)])


class TestWaitersAreBounded:
    @pytest.fixture
    def settings(self) -> CoreSettings:
        return CoreSettings(max_waiters=2)

    async def test_one_more_than_the_limit_is_refused_and_a_free_place_is_used(
        self, broker: Broker
    ) -> None:
        waiting = [parked(broker), parked(broker)]
        await come_to_rest()
        with pytest.raises(TooManyWaiters):
            await broker.leasing.reserve(reserve(wait=SECOND))
        waiting[0].cancel()
        await come_to_rest()
        waiting.append(parked(broker))
        await come_to_rest()
        assert not waiting[2].done()
        broker.drain()
        await asyncio.gather(*waiting[1:])


async def test_p10_a_call_waits_no_longer_because_the_clock_of_its_store_was_set_back() -> None:
    clock = SystemClock()
    broker = Broker(create_driver("memory:"), clock=clock)
    await broker.start()
    waiting = asyncio.create_task(broker.leasing.reserve(reserve(wait=SECOND // 5)))
    await asyncio.sleep(0)
    clock.adjust(-HOUR)
    async with asyncio.timeout(5):
        assert await waiting == []
        assert await broker.leasing.reserve(reserve(wait=SECOND // 5)) == []
    await broker.stop()
