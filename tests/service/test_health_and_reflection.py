"""Standard tools find their way: health for each service, and reflection on loopback."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]
from grpc_reflection.v1alpha.reflection_pb2_grpc import (  # type: ignore[import-untyped]
    ServerReflectionStub,
)

from tests.support.calls import Calls, calls_to
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import running_broker

SERVICES = {
    "towline.v1.QueueService",
    "towline.v1.DeadLetterService",
    "towline.v1.AdminService",
}


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_every_service_is_healthy(service: str, calls: Calls) -> None:
    stub = health_pb2_grpc.HealthStub(calls.channel)
    reply = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_an_unknown_service_has_no_health(calls: Calls) -> None:
    stub = health_pb2_grpc.HealthStub(calls.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="towline.v2.QueueService"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def reflected(calls: Calls) -> set[str]:
    stream = ServerReflectionStub(calls.channel).ServerReflectionInfo()
    await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    reply = await stream.read()
    await stream.done_writing()
    return {service.name for service in reply.list_services_response.service}


async def test_reflection_on_loopback_names_every_service(calls: Calls) -> None:
    assert await reflected(calls) == {
        *SERVICES,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_there_is_no_reflection_on_an_address_that_others_reach() -> None:
    settings = Settings(store="memory:", listen="0.0.0.0:0", insecure=True)
    async with running_broker(settings) as server:
        port = server.address.port
        async with calls_to(f"127.0.0.1:{port}") as calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await reflected(calls)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
