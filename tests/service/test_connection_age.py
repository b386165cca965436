"""Clients are asked to connect anew from time to time, and notice nothing of it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.calls import Calls, calls_to
from tests.support.proxy import Proxy
from towline import AsyncClient
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    PushRequest,
    QueueChoice,
    ReserveRequest,
)
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import BrokerServer, running_broker

#: So often a connection comes to its end in the time of a test, or more often.
TIMES = 4


@pytest.fixture
async def server() -> AsyncIterator[BrokerServer]:
    settings = Settings(store="memory:", listen="127.0.0.1:0", max_connection_age="250ms")
    async with running_broker(settings) as server:
        yield server


async def test_no_call_fails_when_connections_come_of_age(server: BrokerServer) -> None:
    with Proxy(str(server.address)) as proxy:
        async with calls_to(proxy.address) as calls, AsyncClient(proxy.address) as client:
            # Calls of the first are made once, whatever becomes of them.
            parked = asyncio.ensure_future(reserved(calls, "late"))
            pushed = 0
            while proxy.figures().connections < 2 * TIMES:
                await asyncio.gather(
                    calls.queue.Push(PushRequest(jobs=[Job(type="T", queue="q")] * 10)),
                    client.dispatch("T", {}, queue="q"),
                )
                pushed += 11
            # Its connection is long past its age, and there is a newer one.
            assert not parked.done()
            await calls.queue.Push(PushRequest(jobs=[Job(type="T", queue="late")]))
            assert len((await parked).leases) == 1
            assert await taken(calls) == pushed


async def reserved(calls: Calls, queue: str) -> Any:
    request = ReserveRequest(queues=[QueueChoice(name=queue)], max_jobs=1_000)
    request.wait.FromSeconds(30)
    return await calls.queue.Reserve(request)


async def taken(calls: Calls) -> int:
    """How many jobs of the queue q there were."""
    total = 0
    request = ReserveRequest(queues=[QueueChoice(name="q")], max_jobs=1_000)
    while leases := (await calls.queue.Reserve(request)).leases:
        acks = [Ack(lease_token=lease.lease_token) for lease in leases]
        assert all(
            result.outcome == 1 for result in (await calls.queue.Ack(AckRequest(acks=acks))).results
        )
        total += len(leases)
    return total
