"""Which server keeps a partition, now."""

from collections.abc import Sequence
from typing import Protocol

from towline_broker.drivers.redis.link.server import Server
from towline_broker.drivers.redis.link.url import Address, Settings
from towline_broker.drivers.redis.link.wire import Endpoint


class Topology(Protocol):
    """The servers of a store. Knows nothing of what is kept in them."""

    def locate(self, partition: int) -> Server:
        """The master that keeps the partition, as far as is known.

        Raises Unreachable if none is known.
        """

    async def refresh(self) -> None:
        """Finds out anew who is master of what, unless that was just done.

        Raises Unreachable if nobody could be asked.
        """

    def at(self, address: Address) -> Server:
        """The server that a redirection names."""

    def masters(self) -> Sequence[Server]: ...

    async def close(self) -> None: ...


class Standalone:
    """One server, which is always asked."""

    def __init__(self, settings: Settings) -> None:
        self._server = Server(endpoint(settings, settings.addresses[0]), must_be_master=True)

    def locate(self, partition: int) -> Server:
        return self._server

    async def refresh(self) -> None:
        """There is nobody to ask."""

    def at(self, address: Address) -> Server:
        return self._server

    def masters(self) -> Sequence[Server]:
        return [self._server]

    async def close(self) -> None:
        await self._server.close()


def endpoint(settings: Settings, address: Address) -> Endpoint:
    """How to connect to a server that keeps jobs."""
    return Endpoint(
        address=address,
        timeout=settings.timeout,
        user=settings.user,
        password=settings.password,
        db=settings.db,
        tls=settings.tls_context(),
    )
