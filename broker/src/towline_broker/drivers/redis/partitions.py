"""Where a queue is kept, and how a change that a script made is told to the listener."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import count
from secrets import token_hex
from typing import Any, TypeVar
from zlib import crc32

from towline_broker.domain.errors import QueueNotFound
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Listener
from towline_broker.drivers.redis.link.interface import Argument, Call, Link, Script

T = TypeVar("T")

#: Most jobs or leases that one script handles: it holds the server for some milliseconds.
MOST = 1000


class News:
    """What changes came to, for the listener.

    Every script publishes it to all brokers, this one among them, and returns it. What a script of
    this broker returned is told at once, and passed over when it is heard; if its reply was lost,
    what is heard is all there is.
    """

    #: Calls without a reply that are kept in mind.
    KEPT = 1000

    def __init__(self) -> None:
        self._broker = token_hex(8)
        self._calls = count(1)
        self._under_way: dict[str, bytes | None] = {}
        self._lost: OrderedDict[str, None] = OrderedDict()
        self.listener: Listener | None = None

    def begin(self) -> str:
        """The name of a call that is about to be made."""
        call = f"{self._broker}:{next(self._calls)}"
        self._under_way[call] = None
        return call

    def replied(self, call: str, news: bytes) -> None:
        del self._under_way[call]
        self._tell(news)

    def failed(self, call: str) -> None:
        """The call may or may not have had its effect."""
        heard = self._under_way.pop(call)
        if heard is not None:
            self._tell(heard)
            return
        self._lost[call] = None
        if len(self._lost) > self.KEPT:
            self._lost.popitem(last=False)

    def heard(self, news: bytes) -> None:
        call = news.partition(b"\n")[0].decode()
        if call in self._under_way:
            self._under_way[call] = news
        elif not call.startswith(self._broker) or call in self._lost:
            self._lost.pop(call, None)
            self._tell(news)

    def _tell(self, news: bytes) -> None:
        if not news or self.listener is None:
            return
        ended = []
        for line in news.decode().split("\n")[1:]:
            queue, space, number = line.partition(" ")
            if space:
                self.listener.jobs_ready(queue, int(number))
            else:
                ended.append(line)
        if ended:
            self.listener.jobs_ended(ended)


class PartitionedStore:
    """What all verbs need: scripts run where their queue is kept."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._news = News()

    def _partition(self, queue: str) -> int:
        return crc32(queue.encode()) % self._link.partitions

    @property
    def _partitions(self) -> range:
        return range(self._link.partitions)

    async def _ask(self, script: Script, *args: Argument) -> list[Any]:
        """The answers of all partitions."""
        return await self._link.run_all([Call(script, each, args) for each in self._partitions])

    async def _change(
        self, script: Script, partition: int, now: Micros, *args: Argument
    ) -> list[Any]:
        """Runs a script that replies with its news first; returns what follows."""
        reply = await self._change_if_there(script, partition, now, *args)
        if reply is None:
            raise AssertionError(f"script {script.name} has not replied")
        return reply

    async def _change_queue(
        self, script: Script, queue: str, now: Micros, *args: Argument
    ) -> list[Any]:
        """The same for a script about one queue, named first. Raises QueueNotFound."""
        partition = self._partition(queue)
        reply = await self._change_if_there(script, partition, now, queue, *args)
        if reply is None:
            raise QueueNotFound(queue)
        return reply

    async def _change_if_there(
        self, script: Script, partition: int, now: Micros, *args: Argument
    ) -> list[Any] | None:
        call = self._news.begin()
        news = b""
        try:
            reply: list[Any] | None = await self._link.run(
                script, partition, [call, self._link.channel, now, *args]
            )
            if reply is not None:
                news = reply[0]
        except BaseException:
            self._news.failed(call)
            raise
        self._news.replied(call, news)
        return None if reply is None else reply[1:]

    async def _spread(
        self, partitions: Sequence[int], run: Callable[[int, list[int]], Awaitable[Sequence[T]]]
    ) -> list[T]:
        """Does something with each of many items, in their order within a partition, at most
        ``MOST`` in one script, in several partitions at the same time.

        ``partitions`` are those of the items; ``run`` gets a partition and the places of some of
        its items, and returns one result for each.
        """
        results: dict[int, T] = {}

        async def run_partition(partition: int, places: list[int]) -> None:
            for first in range(0, len(places), MOST):
                piece = places[first : first + MOST]
                results.update(zip(piece, await run(partition, piece), strict=True))

        groups: dict[int, list[int]] = {}
        for place, partition in enumerate(partitions):
            groups.setdefault(partition, []).append(place)
        await together(run_partition(*group) for group in groups.items())
        return [results[place] for place in range(len(partitions))]


async def together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Makes calls at the same time; when all have ended, raises the first error if there is one."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    results: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results
