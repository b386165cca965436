"""The addresses to serve: free, or taken, and by whom."""

from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from towline_broker.doctor.findings import Finding, ok, problem, warning
from towline_broker.server.addresses import Address
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.exits import AddressError

#: Seconds for who is there to answer.
PATIENCE = 2.0
#: An address of this machine is asked directly, whatever proxy the environment names.
NO_PROXY = [("grpc.enable_http_proxy", 0)]


async def look_at(settings: Settings) -> AsyncIterator[Finding]:
    yield await _grpc(settings)
    if settings.http.address is not None:
        yield _http(settings.http.address)


async def _grpc(settings: Settings) -> Finding:
    about = f"listen {settings.listen}"
    taken = _taken(Address.parse(settings.listen), "--listen")
    if not taken:
        return ok(about, "free")
    if settings.tls.enabled:
        remedy = "if it is not your broker, stop it or listen elsewhere"
        return warning(
            about, f"{taken}; whether by a broker cannot be told without a token", remedy
        )
    if await _is_broker(settings.listen):
        return ok(about, "a broker serves there")
    return problem(about, f"{taken}, and not by a broker", "stop it, or listen elsewhere")


def _http(address: Address) -> Finding:
    about = f"http.listen {address}"
    taken = _taken(address, "--http")
    if not taken:
        return ok(about, "free")
    remedy = "if it is not your broker, set http.listen to another address, or to off"
    return warning(about, taken, remedy)


def _taken(address: Address, option: str) -> str:
    """Why it cannot be had; empty if it can."""
    if not address.port:
        return ""
    try:
        address.resolve().check_free(option)
    except AddressError as error:
        return str(error)
    return ""


async def _is_broker(address: str) -> bool:
    async with grpc.aio.insecure_channel(address, options=NO_PROXY) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        except grpc.aio.AioRpcError:
            return False
    return True
