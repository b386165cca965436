"""P8: who waits is woken before a push is durable, for its claim comes behind the push anyway; and
still one waiter is woken for a job, and no job is left lying."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
from msgspec.structs import replace

from tests.core.factories import job, reserve
from tests.core.manual_clock import ManualClock, come_to_rest
from towline_broker.core.broker import Broker
from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.jobs import Leased
from towline_broker.domain.time import MINUTE, Micros
from towline_broker.drivers.interface import (
    Capabilities,
    Driver,
    Listener,
    PushBatch,
    PushResult,
    ReserveRequest,
)
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.factories import new_job


class SlowDisk:
    """The memory driver behind a disk: changes are made in order, answered and told of when
    ``durable`` is set, and that they are coming is told before. With ``fails`` a push comes to
    nothing."""

    def __init__(self) -> None:
        self._driver = create_driver("memory:")
        self.durable = asyncio.Event()
        self.durable.set()
        self.fails = False
        self.reserves = 0
        #: What the memory driver tells of a push is kept back here.
        self._pushed: list[tuple[str, int]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    @property
    def capabilities(self) -> Capabilities:
        return replace(self._driver.capabilities, answers_at_once=False)

    async def open(self, now: Micros, listener: Listener) -> Micros:
        self._listener = listener
        return await self._driver.open(now, self)

    def jobs_ready(self, queue: str, count: int) -> None:
        if self._pushed is not None:
            self._pushed.append((queue, count))
        else:
            self._listener.jobs_ready(queue, count)

    def jobs_ended(self, job_ids: Sequence[str]) -> None:
        self._listener.jobs_ended(job_ids)

    async def push(self, batch: PushBatch) -> list[PushResult]:
        if self.fails:
            self._listener.jobs_coming(batch.jobs[0].queue, len(batch.jobs))
            await self.durable.wait()
            raise StoreUnavailable("it came to nothing")
        told: list[tuple[str, int]] = []
        self._pushed = told
        results = await self._driver.push(batch)
        self._pushed = None
        for queue, count in told:
            self._listener.jobs_coming(queue, count)
        await self.durable.wait()
        for queue, count in told:
            self._listener.jobs_ready(queue, count)
        return results

    async def reserve(self, request: ReserveRequest) -> list[Leased]:
        self.reserves += 1
        leases = await self._driver.reserve(request)
        await self.durable.wait()
        return leases


@pytest.fixture
def driver() -> SlowDisk:
    return SlowDisk()


@pytest.fixture
async def broker(driver: SlowDisk) -> AsyncIterator[Broker]:
    broker = Broker(cast(Driver, driver), clock=ManualClock())
    await broker.start()
    yield broker
    await broker.stop()


async def parked(
    broker: Broker, driver: SlowDisk, number: int, *queues: str, max_jobs: int = 1
) -> list["asyncio.Task[list[Leased]]"]:
    """So many who wait; the first comes first."""
    waiting = []
    for _ in range(number):
        call = reserve(*queues, wait=MINUTE, max_jobs=max_jobs)
        waiting.append(asyncio.create_task(broker.leasing.reserve(call)))
        await come_to_rest()
    driver.reserves = 0
    return waiting


def has_come(waiting: list["asyncio.Task[list[Leased]]"]) -> list[bool]:
    return [task.done() for task in waiting]


async def go_home(broker: Broker, waiting: list["asyncio.Task[list[Leased]]"]) -> None:
    broker.drain()
    await asyncio.gather(*waiting)


async def test_the_claim_is_under_way_before_the_push_is_durable_and_answered_after(
    broker: Broker, driver: SlowDisk
) -> None:
    (waiting,) = await parked(broker, driver, 1)
    driver.durable.clear()
    pushing = asyncio.create_task(broker.jobs.push([job()]))
    await come_to_rest()
    assert driver.reserves == 1
    assert not pushing.done()
    assert not waiting.done()
    driver.durable.set()
    await pushing
    assert len(await waiting) == 1


async def test_a_job_that_was_coming_wakes_nobody_else_when_it_is_there(
    broker: Broker, driver: SlowDisk
) -> None:
    waiting = await parked(broker, driver, 3)
    driver.durable.clear()
    pushing = asyncio.create_task(broker.jobs.push([job()]))
    await come_to_rest()
    driver.durable.set()
    await pushing
    await come_to_rest()
    assert has_come(waiting) == [True, False, False]
    assert driver.reserves == 1
    await go_home(broker, waiting)


async def test_each_of_several_that_are_coming_wakes_one(broker: Broker, driver: SlowDisk) -> None:
    waiting = await parked(broker, driver, 3, max_jobs=2)
    driver.durable.clear()
    pushing = asyncio.create_task(broker.jobs.push([job(), job(), job()]))
    await come_to_rest()
    driver.durable.set()
    await pushing
    await come_to_rest()
    assert [len(task.result()) for task in waiting if task.done()] == [2, 1]
    assert driver.reserves == 2
    await go_home(broker, waiting)


async def test_who_was_woken_for_jobs_that_came_to_nothing_waits_on_and_hears_of_the_next(
    broker: Broker, driver: SlowDisk
) -> None:
    waiting = await parked(broker, driver, 2)
    driver.fails = True
    with pytest.raises(StoreUnavailable):
        await broker.jobs.push([job()])
    await come_to_rest()
    assert has_come(waiting) == [False, False]
    driver.fails = False
    await broker.jobs.push([job()])
    await come_to_rest()
    assert has_come(waiting) == [True, False]
    await go_home(broker, waiting)


async def test_who_looks_for_jobs_that_come_to_nothing_looks_again_for_others_that_are_told_of(
    broker: Broker, driver: SlowDisk
) -> None:
    """Else nobody would be woken for those: this one counts as woken."""
    (waiting,) = await parked(broker, driver, 1)
    driver.durable.clear()
    driver.fails = True
    failing = asyncio.create_task(broker.jobs.push([job()]))
    await come_to_rest()
    assert driver.reserves == 1
    # A job that is there without any notice that it was coming: one that was retried, say.
    await driver._driver.push(PushBatch([new_job("emails")], broker.clock.now()))
    driver._listener.jobs_ready("emails", 1)
    driver.durable.set()
    with pytest.raises(StoreUnavailable):
        await failing
    assert len(await asyncio.wait_for(waiting, 30)) == 1


async def test_no_job_is_left_lying_when_who_was_woken_ahead_is_gone(
    broker: Broker, driver: SlowDisk
) -> None:
    first, second = await parked(broker, driver, 2)
    driver.durable.clear()
    pushing = asyncio.create_task(broker.jobs.push([job()]))
    await come_to_rest()
    assert driver.reserves == 1
    first.cancel()
    driver.durable.set()
    await pushing
    assert len(await asyncio.wait_for(second, 30)) == 1
