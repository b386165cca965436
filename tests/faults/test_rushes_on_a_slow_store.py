"""P2, P8, P9: Reserves that come, wait, are given up and are repeated at the very moment at which
a job comes, over a store that takes its time: the job is soon with somebody who waits, and stays.

The store answers what it has done only after a while, at random: so that everything that can
happen in between does.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any, cast

import pytest

from tests.faults.harness.figures import seed, size
from towline.ids import uuid7
from towline.v1 import queue_service_pb2 as pb
from towline_broker.core.broker import Broker
from towline_broker.core.calls import AckCall, JobRequest, QueueWeight, ReserveCall
from towline_broker.domain.jobs import Leased
from towline_broker.domain.time import SECOND
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import create_driver
from towline_broker.services.limits import Limits
from towline_broker.services.queue_service import QueueService
from towline_broker.services.reserving import Context

ROUNDS = 150 * max(1, size("NETWORK_ROUNDS", 1))
QUEUE = "rushes"
#: All in seconds. How long the store takes at most; within which everything happens; how long a
#: Reserve waits, and after which time it should have its job: one that lies about stays so, and the
#: machine may stand still for a moment.
SLOW, MOMENT, WAIT, PROMPT = 0.003, 0.008, 20.0, 5.0


class SlowStore:
    """Jobs in memory; what is asked of them is done at once, and told later."""

    def __init__(self, chance: Random) -> None:
        self._inner = create_driver("memory:")
        self._chance = chance

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        return self._late(attribute) if name in ("reserve", "push", "nack") else attribute

    def _late(self, method: Callable[..., Any]) -> Any:
        async def call(*arguments: Any) -> Any:
            answer = await method(*arguments)
            await asyncio.sleep(self._chance.uniform(0, SLOW))
            return answer

        return call


@pytest.fixture
async def broker(chance: Random) -> AsyncIterator[Broker]:
    broker = Broker(cast(Driver, SlowStore(chance)), rng=chance)
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
def chance() -> Random:
    return Random(seed())


async def reserve(broker: Broker, pause: float, request_id: str = "") -> list[Leased]:
    await asyncio.sleep(pause)
    wait = round(WAIT * SECOND)
    call = ReserveCall([QueueWeight(QUEUE)], wait=wait, worker_id="w", request_id=request_id)
    return await broker.leasing.reserve(call)


async def push(broker: Broker, pause: float) -> str:
    await asyncio.sleep(pause)
    job = JobRequest(uuid7(), QUEUE, "Rush", b"")
    await broker.jobs.push([job])
    return job.id


async def lasting(broker: Broker, leases: list[Leased]) -> bool:
    """Whether these are held still, once nothing is under way."""
    await asyncio.sleep(3 * SLOW)
    driver = broker._stores.default.driver
    return None not in await driver.leases([leased.ref for leased in leases])


async def finished(broker: Broker, tasks: list["asyncio.Task[list[Leased]]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await broker.operating.purge(QUEUE, 1000, dry_run=False)


async def test_p8_a_job_is_with_somebody_who_waits_whoever_else_is_gone(
    broker: Broker, chance: Random
) -> None:
    for _ in range(ROUNDS):
        waiting = asyncio.create_task(
            reserve(broker, chance.choice((0, chance.uniform(0, MOMENT))))
        )
        leaving = [asyncio.create_task(reserve(broker, 0)) for _ in range(chance.randrange(3))]
        pushing = asyncio.create_task(push(broker, chance.uniform(0, MOMENT)))
        await asyncio.sleep(chance.uniform(0, MOMENT))
        for task in leaving:
            task.cancel()
        await asyncio.wait([*leaving, pushing])
        if not any(task.result() for task in leaving if not task.cancelled()):
            try:
                leases = await asyncio.wait_for(waiting, PROMPT)
            except TimeoutError:
                raise AssertionError(f"P8: a job lies about (seed {seed()})") from None
            assert [leased.attempt for leased in leases] == [1], "P9: an attempt was lost"
            assert await lasting(broker, leases), "P2: the lease was taken away"
        await finished(broker, [waiting])


async def test_p2_what_a_repeated_reserve_has_brought_is_not_taken_back_from_it(
    broker: Broker, chance: Random
) -> None:
    for _ in range(ROUNDS):
        request_id = uuid7()
        first = asyncio.create_task(reserve(broker, 0, request_id))
        pushing = asyncio.create_task(push(broker, 0))
        again = asyncio.create_task(reserve(broker, chance.uniform(0, MOMENT), request_id))
        await asyncio.sleep(chance.uniform(0, MOMENT))
        first.cancel()
        try:
            leases = await asyncio.wait_for(again, PROMPT)
        except TimeoutError:
            raise AssertionError(f"P8: a job lies about (seed {seed()})") from None
        assert leases, f"P8: the repeat went home with nothing (seed {seed()})"
        assert await lasting(broker, leases), f"P2: the lease was taken away (seed {seed()})"
        await pushing
        await finished(broker, [first])


class GoneClient:
    """Of a call whose answer finds nobody."""

    def time_remaining(self) -> float:
        return WAIT

    async def write(self, reply: object) -> None:
        raise asyncio.CancelledError


async def test_p9_leases_whose_answer_finds_nobody_go_back_at_once(broker: Broker) -> None:
    service = QueueService(broker, Limits())
    request = pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)], max_jobs=5)
    for _ in range(ROUNDS // 10):
        await push(broker, 0)
        with pytest.raises(asyncio.CancelledError):
            await service.Reserve(request, cast(Context, GoneClient()))
        leases = await asyncio.wait_for(reserve(broker, 0), WAIT + 1)
        assert [leased.attempt for leased in leases] == [1], "P9: leases are left with nobody"
        await broker.settling.ack([AckCall(leased.ref) for leased in leases])
