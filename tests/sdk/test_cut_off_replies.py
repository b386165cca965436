"""P3: a push whose reply was cut off when it had begun to arrive is repeated, and stored once."""

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sdk.both_clients import connected
from tests.support.broker_process import BrokerProcess
from tests.support.proxy import Cut, Proxy, Way
from tests.support.waiting import until
from towline import AsyncClient, AsyncJobHandle, BrokerUnavailable, Client, JobHandle, waiting
from towline.waiting import Patience

#: The connection ends within the reply to the first call that it carries, behind its headers: gRPC
#: does not repeat a call of which it has heard so much.
WITHIN_THE_REPLY = 105


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess("memory:") as running:
        yield running


@pytest.fixture
def proxy(broker: BrokerProcess) -> Iterator[Proxy]:
    with Proxy(broker.address) as running:
        yield running


async def dispatched(client: Any) -> JobHandle | AsyncJobHandle:
    """Also by a client that blocks, while this loop goes on."""
    made = await asyncio.to_thread(client.dispatch, "x")
    handle: JobHandle | AsyncJobHandle = await made if inspect.isawaitable(made) else made
    return handle


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_push_is_repeated_until_its_reply_is_whole(kind: Any, proxy: Proxy) -> None:
    proxy.fail(Cut(Way.REPLY, WITHIN_THE_REPLY, WITHIN_THE_REPLY))
    async with connected(kind, proxy.address) as client:
        dispatching = asyncio.create_task(dispatched(client))

        async def cut_twice() -> bool:
            return proxy.figures().cuts >= 2

        await until(cut_twice, "two replies were cut off")
        proxy.heal()
        assert not (await dispatching).created


def test_it_is_called_five_times_at_most() -> None:
    patience, error = Patience(60.0), BrokerUnavailable("cut off")
    assert all(0 < patience.unavailable(error) < 1 for _ in range(4))
    with pytest.raises(BrokerUnavailable, match="cut off"):
        patience.unavailable(error)


def test_it_is_not_called_again_without_time_left() -> None:
    with pytest.raises(BrokerUnavailable, match="cut off"):
        Patience(0.04).unavailable(BrokerUnavailable("cut off"))


def test_what_grpc_has_repeated_itself_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "GIVEN_UP_EARLY", 0.0)
    with pytest.raises(BrokerUnavailable, match="gone"):
        Patience(60.0).unavailable(BrokerUnavailable("gone"))
