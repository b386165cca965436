"""How the calls of a client reach a broker; the scheme of the client's address says which way.

A transport makes the calls of producers, with the messages of the contract. That of gRPC is the
usual one. ``IN_PROCESS`` lists the others, which need no server.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol, TypeAlias, runtime_checkable

from towline.bearer import BearerToken
from towline.channel import Connection, Credentials, given_address
from towline.transport.blocking import GrpcTransport
from towline.transport.interface import AsyncTransport, Transport
from towline.transport.running_loop import AsyncGrpcTransport

__all__ = [
    "IN_PROCESS",
    "Address",
    "AsyncGrpcTransport",
    "AsyncTransport",
    "GrpcTransport",
    "InProcess",
    "Transport",
    "async_transport_for",
    "transport_for",
]

IN_PROCESS: dict[str, str] = {"sync": "towline.transport.sync"}
"""Modules by the scheme of the addresses that they serve, imported when one is used. Each has
``at(address)``, which returns an InProcess and raises ConfigurationError."""


@runtime_checkable
class InProcess(Protocol):
    """What needs no server. A client can also be given one in the place of an address."""

    def transport(self) -> Transport: ...

    def async_transport(self) -> AsyncTransport: ...


Address: TypeAlias = str | InProcess


def transport_for(
    address: Address | None,
    credentials: Credentials | None,
    token: BearerToken | str | None,
    timeout: float,
    *,
    join: bool,
) -> Transport:
    """Return the transport for an address. Raises ConfigurationError.

    ``timeout`` is that of a call of this client which names no other, in seconds.
    """
    found = _find(address)
    if isinstance(found, InProcess):
        return found.transport()
    connection = Connection.to(found, credentials=credentials, timeout=timeout, token=token)
    return GrpcTransport(connection, join=join)


def async_transport_for(
    address: Address | None,
    credentials: Credentials | None,
    token: BearerToken | str | None,
    timeout: float,
    *,
    join: bool,
) -> AsyncTransport:
    """transport_for, of transports for asyncio."""
    found = _find(address)
    if isinstance(found, InProcess):
        return found.async_transport()
    connection = Connection.to(found, credentials=credentials, timeout=timeout, token=token)
    return AsyncGrpcTransport(connection, join=join)


def _find(address: Address | None) -> Address | None:
    """Return what needs no server, if that is meant, or else the address as it was given."""
    given = given_address(address) if isinstance(address, (str, type(None))) else address
    scheme, separator, _ = given.partition("://") if isinstance(given, str) else ("", "", "")
    if not separator or scheme not in IN_PROCESS:
        return address
    module: Any = import_module(IN_PROCESS[scheme])
    return module.at(given)  # type: ignore[no-any-return]  # what IN_PROCESS promises
