"""Which server keeps a partition, now."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from towline_broker.drivers.redis.link.endpoint import Endpoint, shared
from towline_broker.drivers.redis.link.server import Server
from towline_broker.drivers.redis.link.url import Address, Settings

#: Seconds between two searches for the masters, at least.
_SEARCH_EVERY = 0.1

#: Called when another server than before has become master of something.
OnChange: TypeAlias = Callable[[], None]


class Topology(Protocol):
    """The servers of a store. Knows nothing of what is kept in them."""

    async def refresh(self) -> None:
        """Finds out anew who is master of what.

        Raises Unreachable if it cannot be found out, and Unfit if the servers are of another kind
        than the url says.
        """

    def suspect(self) -> None:
        """A server does not do what a master does: begins to find out, without waiting for it."""

    def locate(self, partition: int) -> Server:
        """The master that keeps the partition, as far as is known.

        Raises Unreachable if none is known.
        """

    def moved(self, partition: int, address: Address) -> None:
        """A server has said who keeps the partition: what is known is out of date."""

    def at(self, address: Address) -> Server:
        """The server that a redirection names."""

    def masters(self) -> Sequence[Server]:
        """All that are known."""

    def posts(self) -> Sequence[Endpoint]:
        """Where published messages can be heard, the best place first."""

    async def close(self) -> None: ...


class Standalone:
    """One server, which is always asked."""

    def __init__(self, settings: Settings) -> None:
        self._endpoint = endpoint(settings, settings.addresses[0])
        self._server = Server(self._endpoint, must_be_master=True)

    async def refresh(self) -> None:
        """There is nobody to ask."""

    def suspect(self) -> None:
        """There is nobody to ask."""

    def locate(self, partition: int) -> Server:
        return self._server

    def moved(self, partition: int, address: Address) -> None:
        """It does not."""

    def at(self, address: Address) -> Server:
        return self._server

    def masters(self) -> Sequence[Server]:
        return [self._server]

    def posts(self) -> Sequence[Endpoint]:
        return [self._endpoint]

    async def close(self) -> None:
        await self._server.close()


class Search:
    """One search at a time for all who wait for its result, and not too often."""

    def __init__(self, search: Callable[[], Awaitable[None]]) -> None:
        self._search = search
        self._under_way: asyncio.Task[None] | None = None
        self._not_before = 0.0

    async def __call__(self) -> None:
        self.start()
        if self._under_way is not None:
            await shared(self._under_way, "the store is being closed")

    def start(self) -> None:
        """Without waiting for its end."""
        if self._under_way is None:
            self._under_way = asyncio.get_running_loop().create_task(self._run())
            self._under_way.add_done_callback(self._done)

    async def close(self) -> None:
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.wait([self._under_way])

    async def _run(self) -> None:
        await asyncio.sleep(self._not_before - asyncio.get_running_loop().time())
        await self._search()

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._under_way = None
        self._not_before = asyncio.get_running_loop().time() + _SEARCH_EVERY
        if not task.cancelled():
            # Those who waited for it may have given up.
            task.exception()


def endpoint(settings: Settings, address: Address) -> Endpoint:
    """How to connect to a server that keeps jobs."""
    return Endpoint(
        address=address,
        timeout=settings.timeout,
        user=settings.user,
        password=settings.password,
        db=settings.db,
        tls=settings.tls,
        replicas=settings.wait_replicas,
    )
