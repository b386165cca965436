"""A call that failed with UNAVAILABLE is repeated exactly where the contract calls it safe."""

import time
from typing import Any

import grpc
import pytest

from tests.sdk.both_clients import answer, connected
from tests.sdk.scripted_broker import Failure, ScriptedBroker, server_for, unavailable
from towline import AsyncClient, BrokerUnavailable, Client, Job, Registry
from towline.channel import SAFE_TO_REPEAT, Connection
from towline.v1 import admin_service_pb2, dead_letter_service_pb2, queue_service_pb2

Code = grpc.StatusCode


class Blob(Job, registry=Registry()):
    text: str


METHODS = [
    (service.full_name, method.name)
    for module in (queue_service_pb2, dead_letter_service_pb2, admin_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not method.client_streaming  # the streams
]


def calls_of(channel: Any, service: str, method: str) -> Any:
    return channel.unary_unary(f"/{service}/{method}", lambda _: b"", lambda data: data)


def expect(broker: ScriptedBroker, service: str, method: str, code: grpc.StatusCode | None) -> None:
    """Only a safe call came again, and so got an answer."""
    safe = method in SAFE_TO_REPEAT[service]
    assert len(broker.called(method)) == (2 if safe else 1)
    assert (code is not grpc.StatusCode.UNAVAILABLE) is safe


@pytest.mark.parametrize(("service", "method"), METHODS)
def test_a_call_is_repeated_only_if_it_is_safe(
    service: str, method: str, broker: ScriptedBroker
) -> None:
    broker.failures[method] = [unavailable()]
    code = None
    with Connection.to(broker.address).open() as channel:
        try:
            calls_of(channel, service, method)(None, timeout=10)
        except grpc.RpcError as error:
            code = error.code()
    expect(broker, service, method, code)


@pytest.mark.parametrize(("service", "method"), METHODS)
async def test_the_same_holds_for_asyncio(
    service: str, method: str, broker: ScriptedBroker
) -> None:
    broker.failures[method] = [unavailable()]
    code = None
    async with Connection.to(broker.address).open_aio() as channel:
        try:
            await calls_of(channel, service, method)(None, timeout=10)
        except grpc.RpcError as error:
            code = error.code()
    expect(broker, service, method, code)


@pytest.mark.parametrize(
    "code",
    [code for code in Code if code not in (Code.OK, Code.UNAVAILABLE, Code.CANCELLED)],
)
def test_no_other_failure_is_repeated(
    code: grpc.StatusCode, broker: ScriptedBroker, client: Client
) -> None:
    broker.failures["Push"] = [Failure(code, "no")]
    with pytest.raises(Exception, match="no"):
        client.dispatch("x")
    assert len(broker.called("Push")) == 1


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_repeated_push_carries_the_same_ids_and_stores_each_job_once(
    kind: Any, broker: ScriptedBroker
) -> None:
    broker.failures["Push"] = [unavailable()] * 2
    async with connected(kind, broker.address) as client:
        # Larger than what gRPC keeps for a repeat by default.
        handles = await answer(client.dispatch_batch(Blob(text="x" * 10_000) for _ in range(290)))
    first, second, third = broker.called("Push")
    assert first == second == third
    assert first.ByteSize() > 2_500_000
    assert set(broker.jobs) == {handle.id for handle in handles}
    assert all(handle.created for handle in handles)


def test_it_gives_up_after_five_tries(broker: ScriptedBroker, client: Client) -> None:
    broker.failures["Push"] = [unavailable("gone")] * 6
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="gone"):
        client.dispatch("x")
    assert len(broker.called("Push")) == 5
    # A restart takes longer than nothing: the tries are spread over a few seconds.
    assert 2 < time.monotonic() - began < 10


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_restarted_broker_is_found_again(kind: Any) -> None:
    broker = ScriptedBroker()
    server = server_for(broker)
    port = int(broker.address.rpartition(":")[2])
    try:
        async with connected(kind, broker.address) as client:
            await answer(client.dispatch("x"))
            server.stop(None).wait()
            server = server_for(broker, port)
            await answer(client.dispatch("x"))
    finally:
        server.stop(None).wait()
    assert len(broker.jobs) == 2
