"""The connections to one server."""

import asyncio

from towline_broker.drivers.redis.link.endpoint import Endpoint, Unreachable, shared
from towline_broker.drivers.redis.link.wire import Wire

#: More than one, because a small request behind large ones would wait for them, and because the
#: server reads a connection in pieces (and with ``appendfsync always`` syncs after each).
_CONNECTIONS = 4
#: With so many bytes unanswered on a connection the next one is used: below, one shared connection
#: is fastest.
_BUSY_BYTES = 64 * 1024
#: Seconds between attempts to connect, doubled from the first to the second bound.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Server:
    """A few connections to one address, opened when they are needed and reopened when lost."""

    def __init__(self, endpoint: Endpoint, *, must_be_master: bool) -> None:
        self.address = endpoint.address
        self._endpoint = endpoint
        self._must_be_master = must_be_master
        self._wires: list[Wire | None] = [None] * _CONNECTIONS
        self._opening: dict[int, asyncio.Task[Wire]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False
        #: Why the last attempt failed, and from when on another one makes sense.
        self._trouble: Unreachable | None = None
        self._pause = _FIRST_PAUSE
        self._again_at = 0.0

    def ready(self) -> Wire | None:
        """An open connection that is not busy, or the least busy one if all are open."""
        for wire in self._wires:
            if wire is None or not wire.usable:
                return None
            if wire.outstanding < _BUSY_BYTES:
                return wire
        return min((wire for wire in self._wires if wire is not None), key=_outstanding)

    async def wire(self) -> Wire:
        """The same, opened if need be. Raises Unreachable."""
        return self.ready() or await self._open(self._first_missing())

    async def close(self) -> None:
        """Waits for the answers under way, then disconnects."""
        self._closed = True
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        for wire in self._wires:
            if wire is not None:
                self._part_with(wire)
        await asyncio.gather(*self._closing)

    def _first_missing(self) -> int:
        return next(
            place for place, wire in enumerate(self._wires) if wire is None or not wire.usable
        )

    async def _open(self, place: int) -> Wire:
        """One attempt for all who ask for it meanwhile."""
        task = self._opening.get(place)
        if task is None:
            loop = asyncio.get_running_loop()
            if self._closed:
                raise Unreachable(f"{self.address}: not used any more")
            if self._trouble is not None and loop.time() < self._again_at:
                # A new one: each time it is raised an exception remembers more of where it was.
                raise type(self._trouble)(*self._trouble.args)
            task = self._opening[place] = loop.create_task(self._connect(place))
            task.add_done_callback(lambda _: self._opening.pop(place, None))
        return await shared(task, f"{self.address}: not used any more")

    async def _connect(self, place: int) -> Wire:
        try:
            connection, greeting = await self._endpoint.connect()
            wire = Wire(self._endpoint, connection, greeting)
            if self._must_be_master and greeting.role != "master":
                await wire.close()
                raise Unreachable(
                    f"{self.address} is a {greeting.role}, not a master: the url names the master, "
                    "or the Sentinels who know it"
                )
        except Unreachable as trouble:
            self._trouble = trouble
            self._again_at = asyncio.get_running_loop().time() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            raise
        self._trouble, self._pause = None, _FIRST_PAUSE
        former, self._wires[place] = self._wires[place], wire
        if former is not None:
            self._part_with(former)
        return wire

    def _part_with(self, wire: Wire) -> None:
        """What is under way on it may end."""
        task = asyncio.get_running_loop().create_task(wire.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _outstanding(wire: Wire) -> int:
    return wire.outstanding
