"""Pushes wait for their turn behind all other calls, and are refused when too many wait (P11).

A broker that is offered several times what it can take must not spend its time on calls that come
to nothing, nor let Reserves and Acks queue up behind Pushes: then nothing gets done at all, and the
queues stay full. gRPC hands calls over one by one, in the order in which they came, and each Push
that is looked at holds up the next call by a millisecond or more. So calls are first taken in, as
fast as they come; all others run at once, and Pushes by turns, when nothing more comes in. Only as
long as there are few of them, and small ones, they do not wait for that.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc

from towline_broker.core.line import Line
from towline_broker.domain.errors import Busy, QueueFull
from towline_broker.domain.identity import Right, current_identity
from towline_broker.interceptors.full_queues import FullQueues
from towline_broker.interceptors.running import RunningCalls
from towline_broker.interceptors.wrapping import Behaviour, WrappingInterceptor

PUSH = "/towline.v1.QueueService/Push"

#: A further Push is refused if the line does not move, or if those in it have so many bytes.
MOST_BYTES = 256 * 1024 * 1024
#: A Push of so many bytes is begun at once while there are fewer than so many under way: to look at
#: it costs less than it cost gRPC to hand it over.
SMALL_BYTES = 16 * 1024
AT_ONCE = 256
#: Nothing more comes in when no call has for so long, in seconds, and for so many turns of the
#: loop: gRPC needs some to hand over the next.
QUIET = 0.000_15
TURNS = 4
#: Longest wait for quiet, and how long Pushes may then be begun before it is waited for again.
MOST_NOISE = 0.02
SPELL = 0.002


class PushPacing(WrappingInterceptor):
    """Sees the bytes of a Push. ``saturated``: whether no store would take one now;
    ``default_queue``: that of a job that names none; ``incoming`` counts all calls; ``timer``:
    seconds, for queues that are taken to be full.

    Raises Busy, QueueFull.
    """

    def __init__(
        self,
        saturated: Callable[[], bool],
        default_queue: str,
        incoming: RunningCalls,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._saturated = saturated
        self._full = FullQueues(default_queue, timer)
        self._incoming = incoming
        #: Pushes that have begun and not ended.
        self._running = 0
        self._line = Line()
        self._bytes = 0
        self._pacer: asyncio.Task[None] | None = None

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        if method != PUSH:
            return behaviour

        async def in_turn(raw: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            finds_out = self._check(raw)
            waits = bool(self._line)
            if self._saturated() or self._bytes > MOST_BYTES or (waits and self._line.crowded):
                raise Busy
            if waits or len(raw) > SMALL_BYTES or self._running >= AT_ONCE:
                await self._turn(len(raw))
                if not finds_out:
                    self._check(raw)
            self._running += 1
            try:
                response = await behaviour(raw, context)
            except QueueFull as error:
                self._full.found(raw, error, again=finds_out)
                raise
            finally:
                self._running -= 1
            self._full.accepted(raw)
            return response

        return in_turn

    def _check(self, raw: bytes) -> bool:
        """As of the full queues; but nothing is told of them to who has no right to push there: the
        call will be refused for that. Raises QueueFull."""
        try:
            return self._full.check(raw)
        except QueueFull as error:
            if current_identity().may(error.queue, Right.PUSH):
                raise
            return False

    async def _turn(self, size: int) -> None:
        waiting = self._line.join(size)
        self._bytes += size
        if self._pacer is None:
            self._pacer = asyncio.ensure_future(self._pace())
        try:
            await waiting.turn
        finally:
            self._bytes -= size

    async def _pace(self) -> None:
        try:
            while self._line:
                await self._take_others_in()
                spell_ends = time.monotonic() + SPELL
                while self._line:
                    if self._line.advance() is not None:
                        await asyncio.sleep(0)
                        if time.monotonic() > spell_ends:
                            break
        finally:
            self._pacer = None

    async def _take_others_in(self) -> None:
        """Returns when no call has come in for a moment; at once if but one Push waits."""
        began = last = time.monotonic()
        seen, turns = self._incoming.calls, 0
        while True:
            await asyncio.sleep(0)
            now, turns = time.monotonic(), turns + 1
            if self._incoming.calls != seen:
                seen, turns, last = self._incoming.calls, 0, now
            quiet = now - last > QUIET or len(self._line) < 2
            if (quiet and turns >= TURNS) or now - began > MOST_NOISE:
                return
