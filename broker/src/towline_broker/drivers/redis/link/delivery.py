"""Bringing a request to the server that keeps its partition, and its answer back.

What is sent again, and when:

* A request that was *not executed* goes out again, whatever it is: it never left this process, or
  the server says so (``replies.py``): the script is not loaded, the partition has moved, the server
  is loading, busy, without its replicas, or no master any more.
* A request whose connection ended before the answer *may have been executed*. It goes out again
  only if that is harmless: scripts that change nothing, and those declared ``repeatable``.

It goes on until the time for it is over, with growing pauses; then StoreUnavailable says what was
in the way.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import TypeAlias

from towline_broker.domain.errors import StoreFull, StoreUnavailable
from towline_broker.domain.events import event
from towline_broker.drivers.redis.link.endpoint import (
    ERROR_REPLIES,
    ErrorReply,
    Reply,
    Unreachable,
    encode,
)
from towline_broker.drivers.redis.link.interface import Script, ScriptDefect
from towline_broker.drivers.redis.link.replies import Verdict, describe, judge, redirection
from towline_broker.drivers.redis.link.server import Server
from towline_broker.drivers.redis.link.topology import Topology
from towline_broker.drivers.redis.link.wire import Lost, Wire

log = logging.getLogger("towline.broker")

#: Seconds between attempts, doubled from the first to the second bound.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.2
_ASKING = encode(["ASKING"])

#: What may come instead of an answer.
Trouble: TypeAlias = ErrorReply | Lost | Unreachable


class Forbidden(StoreUnavailable):
    """The user has not the right. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Request:
    #: As it appears in errors.
    name: str
    partition: int
    payload: bytes
    #: It may be sent again although nobody knows whether it was executed.
    repeatable: bool
    #: The one that is called, if any.
    script: Script | None = None

    @property
    def write(self) -> bool:
        return self.script is not None and self.script.write

    def loading(self) -> list[bytes]:
        """What makes the script known to a server."""
        if self.script is None:
            return []
        return [encode(["SCRIPT", "LOAD", self.script.text])]


class Delivery:
    def __init__(self, topology: Topology, timeout: float) -> None:
        self._topology = topology
        self._timeout = timeout

    async def deliver(self, request: Request) -> Reply:
        """The answer. Raises as :class:`~.interface.Link` says."""
        wire = self._ready(request.partition)
        if wire is None:
            return await _Attempts(self._topology, self._timeout, request).run()
        try:
            [reply] = await wire.exchange(request.payload, write=request.write)
        except Lost as lost:
            return await _Attempts(self._topology, self._timeout, request).run(lost)
        if isinstance(reply, ERROR_REPLIES):
            return await _Attempts(self._topology, self._timeout, request).run(reply, wire)
        return reply

    def _ready(self, partition: int) -> Wire | None:
        try:
            return self._topology.locate(partition).ready()
        except Unreachable:
            return None


class _Attempts:
    """One request that did not get through at the first attempt."""

    def __init__(self, topology: Topology, timeout: float, request: Request) -> None:
        self._topology = topology
        self._request = request
        self._timeout = timeout
        self._until = asyncio.get_running_loop().time() + timeout
        self._pause = 0.0
        #: What to send next, and to whom if not to the one that is known to keep the partition.
        self._commands = [request.payload]
        self._target: Server | None = None

    async def run(self, trouble: Trouble | None = None, wire: Wire | None = None) -> Reply:
        """Sends until there is an answer, or gives up; ``trouble`` is what came of the first."""
        while True:
            if trouble is not None:
                await self._prepare(trouble, wire)
            try:
                wire = await self._reach()
                replies = await wire.exchange(
                    b"".join(self._commands), len(self._commands), write=self._request.write
                )
            except (Lost, Unreachable) as error:
                trouble = error
                continue
            errors = [reply for reply in replies if isinstance(reply, ERROR_REPLIES)]
            if not errors:
                return replies[-1]
            trouble = errors[0]

    async def _reach(self) -> Wire:
        """A connection to the server that is to be asked. Raises Unreachable."""
        try:
            async with asyncio.timeout_at(self._until):
                server = self._target or self._topology.locate(self._request.partition)
                return await server.wire()
        except TimeoutError:
            raise Unreachable(f"no connection in {self._timeout:g} s") from None

    async def _prepare(self, trouble: Trouble, wire: Wire | None) -> None:
        """Makes ready for the next attempt, or raises what ends the request."""
        self._commands, self._target = [self._request.payload], None
        if isinstance(trouble, Lost | Unreachable):
            self._topology.suspect()
        if isinstance(trouble, Lost) and trouble.sent and not self._request.repeatable:
            raise StoreUnavailable(
                f"{self._request.name}: {trouble}; whether it was done is not known"
            )
        if isinstance(trouble, Lost | Unreachable):
            await self._rest(trouble)
            await self._refresh()
        else:
            await self._answer(trouble, wire)

    async def _answer(self, trouble: ErrorReply, wire: Wire | None) -> None:
        """To what the server refused."""
        match judge(trouble):
            case Verdict.LOAD:
                await self._rest(trouble)
                self._commands = [*self._request.loading(), self._request.payload]
            case Verdict.MOVED | Verdict.ASK as verdict:
                await self._rest(trouble)
                self._redirect(trouble, verdict, wire)
            case Verdict.WAIT:
                await self._rest(trouble)
            case Verdict.ELSEWHERE:
                if wire is not None:
                    wire.leave()
                self._topology.suspect()
                await self._rest(trouble)
                await self._refresh()
            case Verdict.FULL:
                raise StoreFull("memory", f"the server has used all of its maxmemory: {trouble}")
            case Verdict.REFUSED:
                raise StoreUnavailable(f"{self._request.name}: {describe(trouble)}")
            case Verdict.FORBIDDEN:
                raise Forbidden(f"{self._request.name}: {describe(trouble)}")
            case Verdict.DEFECT:
                log.error(
                    "script %s failed: %s",
                    self._request.name,
                    trouble,
                    extra=event("script_failed", script=self._request.name, reason=str(trouble)),
                )
                raise ScriptDefect(f"script {self._request.name} failed: {trouble}")

    async def _rest(self, trouble: Trouble) -> None:
        """Waits a little, but not at first. Raises StoreUnavailable when the time is over."""
        loop = asyncio.get_running_loop()
        if loop.time() + self._pause >= self._until:
            said = describe(trouble) if isinstance(trouble, ERROR_REPLIES) else trouble
            raise StoreUnavailable(f"{self._request.name}: {said}")
        if self._pause:
            await asyncio.sleep(self._pause)
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout_at(self._until):
                await self._topology.refresh()
        except (TimeoutError, Unreachable) as error:
            log.debug("no news of the servers: %s", error)

    def _redirect(self, reply: ErrorReply, verdict: Verdict, wire: Wire | None) -> None:
        address = redirection(reply, wire.address.host if wire is not None else "")
        self._target = self._topology.at(address)
        if verdict is Verdict.ASK:
            # ASKING holds for the one command that follows.
            self._commands = [*self._request.loading(), _ASKING, self._request.payload]
        else:
            self._topology.moved(self._request.partition, address)
