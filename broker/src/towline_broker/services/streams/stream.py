"""One stream: read ahead within bounds, answered together, ended in good order."""

import abc
import asyncio
from contextlib import suppress
from typing import Any, TypeAlias

import grpc

from towline_broker.domain.errors import StreamOver, TowlineError
from towline_broker.services.streams.lifetime import CLOSING_GRACE, Lifetime
from towline_broker.streaming import Scope

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

#: No further message is read while so many items of a stream, or bytes of its messages, wait for
#: their answers.
MOST_OWED = 1_000
MOST_OWED_BYTES = 8 * 1024 * 1024
#: Answers leave together as long as they come to no more bytes.
JOINED_BYTES = 1024 * 1024


class Stream(abc.ABC):
    """Template: a subclass takes messages, and answers with parts of one.

    On the wire a message is its fields in a row, so parts that are fields of the stream's response
    come to one response when they are joined.
    """

    def __init__(self, context: Context, scope: Scope, lifetime: Lifetime) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._scope = scope
        self._lifetime = lifetime
        self._parts: list[bytes] = []
        #: How many parts there have been, and how many of them were given to gRPC.
        self._sent = 0
        self._taken = 0
        #: Of parts that were not handed to gRPC yet: items and bytes that they answer.
        self._answered = 0
        self._answered_bytes = 0
        self._owed = 0
        self._owed_bytes = 0
        #: The writer waits for parts, the reader for room, the end for everything to be written.
        self._has_parts: asyncio.Future[None] | None = None
        self._has_room: asyncio.Future[None] | None = None
        self._settled: asyncio.Future[bool] | None = None
        self._over: TowlineError | None = None
        self._broken = False
        self._half_closed = False
        self._reading = asyncio.timeout(None)
        self.gone = False
        self._messages = 0

    @abc.abstractmethod
    async def take(self, raw: bytes) -> None:
        """A message has come, and was read. Raises what ends the stream."""

    @property
    @abc.abstractmethod
    def closing_notice(self) -> bytes:
        """The part that tells of the closing."""

    @abc.abstractmethod
    def begin(self) -> None:
        """The stream is accepted, and is read from here on."""

    @abc.abstractmethod
    def stop_giving(self) -> None:
        """The stream is over, or will be: it gets nothing more but answers."""

    @abc.abstractmethod
    async def left(self) -> None:
        """It is over: what was not written is known by now."""

    async def serve(self) -> None:
        """Returns once its caller has ended it and has every answer. Raises what ended it
        otherwise."""
        writer: asyncio.Task[None] | None = None
        try:
            writer = self._loop.create_task(self._write())
            writer.add_done_callback(self._writer_ended)
            self._lifetime.begin(self._close, self.end)
            with suppress(TimeoutError):  # ended by the broker: see self._over
                async with self._reading:
                    await self._read()
            self.stop_giving()
            whole = await self._all_written(CLOSING_GRACE if self._over else None)
            if self._broken:  # nobody is there to be told
                raise asyncio.CancelledError
            if self._over is not None and not (self._half_closed and whole):
                raise self._over
        finally:
            self.gone = True
            self._lifetime.end()
            self.stop_giving()
            if writer is not None:
                writer.cancel()
            self._scope.gate.answered(self._owed_bytes)
            self._scope.about["messages"] = self._messages
            await self.left()

    def end(self, error: TowlineError) -> None:
        """No further message is read; what was read is answered, if that does not take long."""
        if self._over is None and not self.gone:
            self._over = error
            try:
                self._reading.reschedule(self._loop.time())
            except RuntimeError:  # it has read everything, and writes what is left
                self._loop.call_later(CLOSING_GRACE, self._tell_settled, False)

    def _close(self) -> None:
        self.stop_giving()
        self.send(self.closing_notice)

    # --- what comes in ------------------------------------------------------------------------

    async def _read(self) -> None:
        read, eof = self._context.read, grpc.aio.EOF
        self.begin()
        while self._over is None:
            raw: Any = await read()
            if raw is eof:
                self._half_closed = True
                return
            self._messages += 1
            await self.take(raw)
            if self._owed > MOST_OWED or self._owed_bytes > MOST_OWED_BYTES:
                await self._room()

    def owe(self, items: int, size: int) -> None:
        """Answers for so many items, of a message of so many bytes."""
        self._owed += items
        self._owed_bytes += size

    async def _room(self) -> None:
        while self._owed > MOST_OWED or self._owed_bytes > MOST_OWED_BYTES:
            self._has_room = self._loop.create_future()
            await self._has_room

    # --- what goes out ------------------------------------------------------------------------

    def send(self, part: bytes) -> int:
        """What answers no item; returns its number, from 1. Of a stream that is over nobody is
        there to be told, but whoever answers several streams need not know."""
        self._parts.append(part)
        self._sent += 1
        waiting = self._has_parts
        if waiting is not None and not waiting.done():
            self._has_parts = None
            waiting.set_result(None)
        return self._sent

    def answer(self, part: bytes, size: int, items: int = 1, code: str = "OK") -> None:
        """``size``: of what is owed for the items. An empty part: they get no answer."""
        self._scope.answers[code] += items
        self._answered += items
        self._answered_bytes += size
        self.send(part)

    async def _write(self) -> None:
        write, gate = self._context.write, self._scope.gate
        while True:
            if not self._parts:
                if self._settled is not None and not self._owed:
                    self._tell_settled(True)
                # Cancelled with this task, and forgotten by it.
                waiting = self._has_parts = self._loop.create_future()
                await waiting
            await self.before_writing()
            raw, answered, size = self._next()
            taken = self._taken
            if raw:
                gate.writes(len(raw))
                try:
                    await write(raw)
                finally:
                    gate.writes(-len(raw))
            self.written(taken)
            self._paid(answered, size)

    @abc.abstractmethod
    async def before_writing(self) -> None:
        """There is something to be written, and there may be more in a moment."""

    @abc.abstractmethod
    def written(self, last: int) -> None:
        """The parts up to that number are with gRPC."""

    def _next(self) -> tuple[bytes, int, int]:
        """A message of what is there, the items that it answers, and their bytes."""
        parts = self._parts
        raw = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(raw) > JOINED_BYTES and len(parts) > 1:
            return self._some(), 0, 0  # what they answer counts once all are written
        self._taken += len(parts)
        parts.clear()
        answered, size = self._answered, self._answered_bytes
        self._answered = self._answered_bytes = 0
        return raw, answered, size

    def _some(self) -> bytes:
        """The first part, and what fits beside it."""
        size = count = 0
        for part in self._parts:
            size += len(part)
            if count and size > JOINED_BYTES:
                break
            count += 1
        raw = b"".join(self._parts[:count])
        del self._parts[:count]
        self._taken += count
        return raw

    def _paid(self, items: int, size: int) -> None:
        self._owed -= items
        self._owed_bytes -= size
        if size:
            self._scope.gate.answered(size)
        waiting = self._has_room
        if waiting is not None and not waiting.done():
            self._has_room = None
            waiting.set_result(None)

    async def _all_written(self, seconds: float | None) -> bool:
        """False: so many seconds have passed, it is to end, or there is nobody to write to."""
        if self._broken:
            return False
        if not self._owed and not self._parts and self._has_parts is not None:
            return True
        settled: asyncio.Future[bool] = self._loop.create_future()
        self._settled = settled
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await settled
        return False

    def _writer_ended(self, writer: "asyncio.Task[None]") -> None:
        """Nobody is there to be written to; or it was this stream that ended it."""
        if not writer.cancelled() and writer.exception() is not None:
            self._broken = True
            self.end(StreamOver("the connection of the stream is broken"))
            self._tell_settled(False)

    def _tell_settled(self, whole: bool) -> None:
        settled, self._settled = self._settled, None
        if settled is not None and not settled.done():
            settled.set_result(whole)
