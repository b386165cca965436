"""Calls with less time than gRPC's own repeats take say whether there was a broker to wait for."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sdk.both_clients import answer, connected
from tests.sdk.scripted_broker import ScriptedBroker, server_for
from towline import (
    AsyncClient,
    BrokerUnavailable,
    Client,
    DeadlineExceeded,
)
from towline.v1 import job_pb2

SHORT = 0.4
UNKNOWN_ID = "01890000-0000-7000-8000-000000000000"

both_kinds = pytest.mark.parametrize("kind", [Client, AsyncClient])


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which connections are refused."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening
        yield "{}:{}".format(*held.getsockname())


@pytest.fixture
def mute() -> Iterator[str]:
    """An address that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield "{}:{}".format(*listening.getsockname())


@both_kinds
async def test_where_nobody_listens_it_says_so_whatever_time_it_had(kind: Any, nobody: str) -> None:
    async with connected(kind, nobody, call_timeout=SHORT) as client:
        with pytest.raises(BrokerUnavailable, match=f"no broker can be reached at {nobody}: "):
            await answer(client.dispatch("x"))
        with pytest.raises(BrokerUnavailable, match=f"no broker can be reached at {nobody}: "):
            await answer(client.get(UNKNOWN_ID))


async def test_so_does_each_of_those_whose_jobs_would_have_travelled_together(nobody: str) -> None:
    async with AsyncClient(nobody, call_timeout=SHORT) as client:
        failures = await asyncio.gather(
            *(client.dispatch("x") for _ in range(5)), return_exceptions=True
        )
    assert [type(failure) for failure in failures] == [BrokerUnavailable] * 5
    with Client(nobody, call_timeout=SHORT) as client_of_threads:
        found: list[Exception] = []

        def dispatch() -> None:
            try:
                client_of_threads.dispatch("x")
            except Exception as error:
                found.append(error)

        threads = [threading.Thread(target=dispatch) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [type(failure) for failure in found] == [BrokerUnavailable] * 5


@both_kinds
async def test_where_no_connection_comes_about_in_time_it_says_so(kind: Any, mute: str) -> None:
    async with connected(kind, mute, call_timeout=SHORT) as client:
        with pytest.raises(BrokerUnavailable, match=f"at {mute}: no connection came about in time"):
            await answer(client.get(UNKNOWN_ID))


@both_kinds
async def test_a_broker_that_is_there_and_slow_is_called_slow(
    kind: Any, broker: ScriptedBroker
) -> None:
    async with connected(kind, broker.address) as client:
        await answer(client.dispatch("x"))
        broker.hold.clear()
        try:
            with pytest.raises(DeadlineExceeded, match="no answer in time"):
                await answer(client.dispatch("x", call_timeout=0.2))
        finally:
            broker.hold.set()


@both_kinds
async def test_an_awaited_broker_may_be_away_for_longer_than_a_call_may_take(kind: Any) -> None:
    broker = ScriptedBroker()
    server = server_for(broker)
    port = int(broker.address.rpartition(":")[2])
    try:
        async with connected(kind, broker.address, call_timeout=0.2) as client:
            handle = await answer(client.dispatch("x", call_timeout=10))
            server.stop(None).wait()
            # Each look is a call of its own, and has 0.2 seconds and what it may be held for.
            looks = client.watch(handle.id, interval=0.05)
            seen = asyncio.ensure_future(_last(looks))
            await asyncio.sleep(0.8)
            assert not seen.done()
            broker.finish(handle.id, job_pb2.JOB_STATE_SUCCEEDED, result=b"1")
            server = server_for(broker, port)
            assert (await seen).outcome() == 1
    finally:
        server.stop(None).wait()


async def _last(looks: Any) -> Any:
    if hasattr(looks, "__aiter__"):
        return [status async for status in looks][-1]
    return (await asyncio.to_thread(list, looks))[-1]
