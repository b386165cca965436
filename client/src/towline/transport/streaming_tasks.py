"""Pushes of all tasks of an event loop over one stream; towline.transport.streams tells why."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import count
from typing import Any

import grpc
import grpc.aio

from towline.errors import TowlineError
from towline.transport.streams import (
    IDLE,
    JOINED,
    JOINED_BYTES,
    LARGEST,
    METHOD,
    STALLED,
    Demand,
    encoded,
    end_of_age,
    outcome_of,
    too_late,
)
from towline.v1.queue_service_pb2 import (
    PushRequest,
    PushResponse,
    PushStreamResponse,
    StreamedPushResult,
)


class StreamingTasks:
    """The stream of a channel, opened when it is worth it, and the one that takes its place."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._method: Any = channel.stream_stream(METHOD, None, PushStreamResponse.FromString)
        self._demand = Demand()
        self._stream: _Stream | None = None
        self._opening: _Stream | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    async def push(self, request: PushRequest, timeout: float) -> PushResponse | None:
        """Return the answer; None: make this push by a call. Raises what Push fails with."""
        began = time.monotonic()
        stream = self._stream
        if (stream is None or began > stream.replaced_at) and self._demand.pushed():
            self._open()
        if stream is None:
            return None
        result = await stream.push(request, began, timeout)
        return None if result is None else outcome_of(result)

    async def close(self) -> None:
        """To be called before the channel is closed, which ends the streams. Those who wait get no
        answer from here."""
        self._closed = True
        self._stream = None
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _open(self) -> None:
        if self._opening is None and not self._closed:
            stream = self._opening = _Stream(self)
            task = asyncio.get_running_loop().create_task(stream.run(self._method))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def accepted(self, stream: _Stream) -> None:
        before, self._stream = self._stream, stream
        self._opening = None
        if before is not None:
            before.finish()

    def ended(self, stream: _Stream, *, failed: bool) -> None:
        """It takes no more pushes."""
        if self._stream is stream:
            self._stream = None
        if self._opening is stream:
            self._opening = None
        if failed and not self._closed:
            self._demand.failed(answered=stream.answered)


class _Caller:
    """A task that waits for its answer, of which None is to say that there is none."""

    __slots__ = ("began", "result")

    def __init__(self, began: float) -> None:
        self.began = began
        self.result: asyncio.Future[StreamedPushResult | None] = (
            asyncio.get_running_loop().create_future()
        )

    def tell(self, result: StreamedPushResult | None) -> None:
        if not self.result.done():
            self.result.set_result(result)


class _Stream:
    """One call of PushStream. A task reads, and another writes while there is something."""

    def __init__(self, owner: StreamingTasks) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._call: Any = None
        self._sequences = count(1)
        self._outgoing: list[bytes] = []
        self._writer: asyncio.Task[None] | None = None
        #: In the order in which they came.
        self._waiting: dict[int, _Caller] = {}
        self._finished = False
        self._failed = False
        self._idle: asyncio.TimerHandle | None = None
        self._pushed_at = 0.0
        self.answered = False
        self.replaced_at = 0.0

    async def push(
        self, request: PushRequest, now: float, timeout: float
    ) -> StreamedPushResult | None:
        """None: it does not take the push, or has no answer. Raises DeadlineExceeded."""
        sequence = next(self._sequences)
        raw = encoded(sequence, request)
        if self._finished or len(raw) > LARGEST or self._stalled(now):
            return None
        caller = self._waiting[sequence] = _Caller(now)
        self._pushed_at = now
        self._outgoing.append(raw)
        if self._writer is None:
            self._writer = self._loop.create_task(self._write())
        seconds = timeout if self.answered else min(timeout, STALLED)
        # A loop may count time in its own way.
        alarm = self._loop.call_later(seconds, self._give_up, caller, seconds == timeout)
        try:
            return await caller.result
        finally:
            alarm.cancel()
            self._waiting.pop(sequence, None)

    def finish(self) -> None:
        """Take no more pushes; what was sent is answered."""
        if not self._finished:
            self._finished = True
            if self._idle is not None:
                self._idle.cancel()
            if self._writer is None:
                self._writer = self._loop.create_task(self._write())

    async def run(self, method: Any) -> None:
        failed = True
        try:
            call = self._call = method()
            await call.initial_metadata()  # is there when the stream is accepted
            self.replaced_at = end_of_age()
            self._pushed_at = time.monotonic()
            self._look_whether_idle()
            self._owner.accepted(self)
            while (response := await call.read()) is not grpc.aio.EOF:
                self._arrived(response)
            failed = await call.code() is not grpc.StatusCode.OK
        except (grpc.RpcError, grpc.aio.UsageError, TowlineError):
            pass  # that it was refused or broke, a closed channel, that a token cannot be read
        except asyncio.CancelledError:
            # So does grpc end the calls of a channel that is closed, and this the stream.
            if self._call is not None:
                self._call.cancel()
        finally:
            self._over()
            self._ends(failed=failed)
            if self._writer is not None:
                self._writer.cancel()
                await asyncio.wait([self._writer])

    def _arrived(self, response: PushStreamResponse) -> None:
        self.answered = True
        for result in response.results:
            caller = self._waiting.get(result.sequence)
            if caller is not None:
                caller.tell(result)
        if response.closing:
            self.finish()
            self._ends(failed=False)

    async def _write(self) -> None:
        with suppress(grpc.RpcError, asyncio.CancelledError, asyncio.InvalidStateError):
            while self._outgoing:
                await self._call.write(self._next())
            if self._finished:
                await self._call.done_writing()
        self._writer = None

    def _next(self) -> bytes:
        parts, size = self._outgoing, 0
        for fitting, part in enumerate(parts):
            if size >= JOINED_BYTES or fitting >= JOINED:
                self._outgoing = parts[fitting:]
                return b"".join(parts[:fitting])
            size += len(part)
        self._outgoing = []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _look_whether_idle(self) -> None:
        left = self._pushed_at + IDLE - time.monotonic()
        if left <= 0:
            self.finish()
            self._ends(failed=False)
        elif not self._finished:
            self._idle = self._loop.call_later(left, self._look_whether_idle)

    def _stalled(self, now: float) -> bool:
        oldest = next(iter(self._waiting.values()), None)
        return oldest is not None and now - oldest.began > STALLED

    def _give_up(self, caller: _Caller, too_late_now: bool) -> None:
        """It got no answer. The stream is ended, once nobody hopes for one any more."""
        if caller.result.done():
            return
        if too_late_now:
            caller.result.set_exception(too_late())
        else:
            caller.tell(None)
        self.finish()
        self._ends(failed=True)
        if all(each.result.done() for each in self._waiting.values()):
            self._call.cancel()

    def _ends(self, *, failed: bool) -> None:
        failed, self._failed = failed and not self._failed, failed or self._failed
        self._owner.ended(self, failed=failed)

    def _over(self) -> None:
        """Those who wait are to make calls."""
        self._finished = True
        if self._idle is not None:
            self._idle.cancel()
        for caller in self._waiting.values():
            caller.tell(None)
