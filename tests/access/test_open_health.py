"""Health answers strangers, too, without reading what they send."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from tests.access.callers import bearer
from tests.access.senders import Tokens
from tests.support.calls import Calls
from tests.support.waiting import until
from towline_broker.interceptors import open_health
from towline_broker.server.serving import BrokerServer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WRONG = health_pb2.HealthCheckRequest(service="no such service")


async def test_strangers_are_told_of_the_broker_and_callers_of_each_service(
    calls: Calls, tokens: Tokens
) -> None:
    health = health_pb2_grpc.HealthStub(calls.channel)
    for metadata in ((), bearer("twl_nobodys")):
        assert (await health.Check(WRONG, metadata=metadata)).status == SERVING
    known = bearer(tokens.make("probe"))
    assert (await health.Check(health_pb2.HealthCheckRequest(), metadata=known)).status == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(WRONG, metadata=known)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_strangers_who_watch_hear_of_a_drain_and_leave_room_for_others(
    calls: Calls, server: BrokerServer, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_health, "MOST_STRANGERS", 2)
    health = health_pb2_grpc.HealthStub(calls.channel)
    watching = [health.Watch(WRONG) for _ in range(2)]
    assert [(await each.read()).status for each in watching] == [SERVING] * 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Watch(WRONG).read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    # A probe of the broker among them: whoever watches does not make it look as if it were down.
    assert (await health.Check(WRONG)).status == SERVING
    known = bearer(tokens.make("probe"))
    assert (await health.Check(health_pb2.HealthCheckRequest(), metadata=known)).status == SERVING
    watching[0].cancel()

    async def answered() -> bool:
        another = health.Watch(WRONG)
        try:
            return bool((await another.read()).status == SERVING)
        except grpc.aio.AioRpcError:
            return False
        finally:
            another.cancel()

    await until(answered, "whoever watched has made room")
    server.broker.drain()
    await server._health.enter_graceful_shutdown()
    assert (await watching[1].read()).status == NOT_SERVING
    watching[1].cancel()
