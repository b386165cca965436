"""The addresses to serve: free, or taken, and by whom."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from towline_broker.doctor.findings import Finding, ok, problem, warning
from towline_broker.server.addresses import Address
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.exits import AddressError

#: Seconds for who is there to answer.
PATIENCE = 2.0
#: What is said of one that is free, or taken by a broker.
FREE, OURS = "free", "a broker serves there"
ELSEWHERE = "choose another with --listen HOST:PORT"


async def look_at(settings: Settings) -> AsyncIterator[Finding]:
    yield await _grpc(settings)
    if settings.http.address is not None:
        yield await _http(settings, settings.http.address)


async def _grpc(settings: Settings) -> Finding:
    about, address = f"listen {settings.listen}", Address.parse(settings.listen)
    taken = _taken(address, "--listen")
    if not taken:
        return ok(about, FREE)
    if settings.tls.enabled:
        if await asyncio.to_thread(_shows, address, settings.tls.cert):
            return ok(about, f"{OURS} (with the certificate of these settings)")
        remedy = f"if it is not your broker, stop it, or {ELSEWHERE}"
        return warning(about, f"{taken}, by what shows another certificate or none", remedy)
    if await _is_broker(settings.listen):
        return ok(about, OURS)
    return problem(about, f"{taken}, and not by a broker", f"stop it, or {ELSEWHERE}")


async def _http(settings: Settings, address: Address) -> Finding:
    about = f"http.listen {address}"
    taken = _taken(address, "--http")
    if not taken:
        return ok(about, FREE)
    if settings.http.tls:
        ours = await asyncio.to_thread(_shows, address, settings.tls.cert)
    else:
        ours = await asyncio.to_thread(_answers_probes, address)
    if ours:
        return ok(about, OURS)
    remedy = "choose another with --http HOST:PORT, or switch it off (--http off)"
    return warning(about, f"{taken}, and not by a broker", remedy)


def _taken(address: Address, option: str) -> str:
    """Why it cannot be had; empty if it can."""
    if not address.port:
        return ""
    try:
        address.resolve().check_free(option)
    except AddressError as error:
        return str(error).partition(";")[0]
    return ""


async def _is_broker(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        except grpc.aio.AioRpcError:
            return False
    return True


def _shows(address: Address, certificate: Path | None) -> bool:
    """Whether who listens there shows this certificate: without a token no more can be told."""
    if certificate is None:
        return False
    with suppress(OSError, ValueError):
        shown = ssl.get_server_certificate((address.host, address.port), timeout=PATIENCE)
        # The first one of the file is the broker's own.
        end = ssl.PEM_FOOTER
        own = certificate.read_text(encoding="ascii").partition(end)[0] + end
        own = own[own.index(ssl.PEM_HEADER) :]
        return ssl.PEM_cert_to_DER_cert(shown) == ssl.PEM_cert_to_DER_cert(own)
    return False


def _answers_probes(address: Address) -> bool:
    url = f"http://{address}/livez"
    try:
        with urlopen(url, timeout=PATIENCE) as answer:
            server = answer.headers.get("Server", "")
    except HTTPError as error:
        with error:
            server = error.headers.get("Server", "")
    except (OSError, ValueError, HTTPException):
        return False
    return bool(server == "towline-broker")
