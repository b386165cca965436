"""How the calls of a client reach a broker; the scheme of the client's address says which way.

A transport makes the calls of producers, with the messages of the contract. That of gRPC is the
usual one. ``IN_PROCESS`` lists the others, which need no server.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from towline.channel import Connection, Credentials
from towline.transport.blocking import GrpcTransport
from towline.transport.interface import AsyncTransport, Transport
from towline.transport.running_loop import AsyncGrpcTransport

__all__ = [
    "IN_PROCESS",
    "AsyncGrpcTransport",
    "AsyncTransport",
    "GrpcTransport",
    "Transport",
    "async_transport_for",
    "transport_for",
]

IN_PROCESS: dict[str, str] = {}
"""Modules by the scheme of the addresses that they serve, imported when one is used. Each has
``transport(address)`` and ``async_transport(address)``, which raise ConfigurationError."""


class _InProcess(Protocol):
    def transport(self, address: str) -> Transport: ...

    def async_transport(self, address: str) -> AsyncTransport: ...


def transport_for(
    address: str | None,
    credentials: Credentials | None,
    timeout: float,
    *,
    join: bool,
) -> Transport:
    """Return the transport for an address. Raises ConfigurationError.

    ``timeout`` is that of a call of this client which names no other, in seconds.
    """
    module = _in_process(address)
    if module is not None:
        return module.transport(str(address))
    connection = Connection.to(address, credentials=credentials, timeout=timeout)
    return GrpcTransport(connection, join=join)


def async_transport_for(
    address: str | None,
    credentials: Credentials | None,
    timeout: float,
    *,
    join: bool,
) -> AsyncTransport:
    """transport_for, of transports for asyncio."""
    module = _in_process(address)
    if module is not None:
        return module.async_transport(str(address))
    connection = Connection.to(address, credentials=credentials, timeout=timeout)
    return AsyncGrpcTransport(connection, join=join)


def _in_process(address: object) -> _InProcess | None:
    scheme, separator, _ = address.partition("://") if isinstance(address, str) else ("", "", "")
    if not separator or scheme not in IN_PROCESS:
        return None
    module: Any = import_module(IN_PROCESS[scheme])
    return module  # type: ignore[no-any-return]  # what IN_PROCESS promises
