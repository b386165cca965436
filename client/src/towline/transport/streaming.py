"""Pushes of all threads of a process over one stream; towline.transport.streams tells why."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any

import grpc

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


class Streaming:
    """The stream of a channel, opened when it is worth it, and the one that takes its place. They
    end with the channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        # Bytes go as they are: each thread has encoded its own.
        self._method: Any = channel.stream_stream(METHOD, None, PushStreamResponse.FromString)
        self._lock = threading.Lock()
        self._demand = Demand()
        self._stream: _Stream | None = None
        self._opening = False
        self._readers: dict[_Stream, threading.Thread] = {}
        self._resting = False

    @property
    def running(self) -> bool:
        """Whether a stream is open, or about to be."""
        return bool(self._readers)

    def rest(self) -> None:
        """Open no stream until ``go_on``. Waits for no lock."""
        self._resting = True

    def end(self) -> None:
        """Return when all streams have ended, which answer what they took."""
        with self._lock:
            readers = dict(self._readers)
        for stream in readers:
            stream.finish()
        for reader in readers.values():
            reader.join()

    def go_on(self) -> None:
        self._resting = False

    def push(self, request: PushRequest, timeout: float) -> PushResponse | None:
        """Return the answer; None: make this push by a call. Raises what Push fails with."""
        began = time.monotonic()
        stream = self._stream
        if (stream is None or began > stream.replaced_at) and self._demand.pushed():
            self._open()
        while stream is not None:
            caller = stream.send(request, began)
            if caller is not None:
                result = stream.wait(caller, began + timeout)
                return None if result is None else outcome_of(result)
            before, stream = stream, self._stream
            if stream is before:  # else it has been replaced in this moment
                break
        return None

    def _open(self) -> None:
        with self._lock:
            if self._opening or self._resting:
                return
            self._opening = True
            stream = _Stream(self._accepted, self._ended)
            reader = threading.Thread(
                target=self._read, args=(stream,), name="towline-pushes", daemon=True
            )
            self._readers[stream] = reader
            try:
                reader.start()
                return
            except RuntimeError:  # no more threads, or the interpreter is about to end
                del self._readers[stream]
        self._ended(stream, failed=True)

    def _read(self, stream: _Stream) -> None:
        try:
            stream.run(self._method)
        finally:
            with self._lock:
                self._readers.pop(stream, None)

    def _accepted(self, stream: _Stream) -> None:
        with self._lock:
            before, self._stream = self._stream, stream
            self._opening = False
        if before is not None:
            before.finish()

    def _ended(self, stream: _Stream, *, failed: bool) -> None:
        """It takes no more pushes; may be told more than once, but only once of a failure."""
        with self._lock:
            if self._stream is stream:
                self._stream = None
            elif not stream.accepted:
                self._opening = False
        if failed:
            self._demand.failed(answered=stream.answered)


class _Caller:
    """A thread that waits for its answer."""

    __slots__ = ("began", "result", "sequence", "waits")

    def __init__(self, sequence: int, began: float) -> None:
        self.sequence = sequence
        self.began = began
        self.result: StreamedPushResult | None = None
        self.waits = threading.Lock()
        self.waits.acquire()


class _Stream:
    """One call of PushStream, which has a thread that reads. That of gRPC which writes runs
    ``_messages``."""

    def __init__(
        self,
        on_accepted: Callable[[_Stream], None],
        on_ended: Callable[..., None],
    ) -> None:
        self._on_accepted = on_accepted
        self._on_ended = on_ended
        self._call: Any = None
        self._sequences = count(1)
        self._lock = threading.Lock()
        #: None: there will be no more.
        self._outgoing: SimpleQueue[bytes | None] = SimpleQueue()
        #: In the order in which they came.
        self._waiting: dict[int, _Caller] = {}
        self._finished = False
        self._failed = False
        self.accepted = False
        self.answered = False
        self.replaced_at = 0.0

    def send(self, request: PushRequest, now: float) -> _Caller | None:
        """None: it does not take the push."""
        sequence = next(self._sequences)
        raw = encoded(sequence, request)
        if len(raw) > LARGEST:
            return None
        caller = _Caller(sequence, now)
        with self._lock:
            if self._finished or self._stalled(now):
                return None
            self._waiting[sequence] = caller
            self._outgoing.put(raw)
        return caller

    def wait(self, caller: _Caller, deadline: float) -> StreamedPushResult | None:
        """Return what came for this caller, None if nothing will. Raises DeadlineExceeded."""
        proven = self.answered
        until = deadline if proven else min(deadline, caller.began + STALLED)
        try:
            in_time = caller.waits.acquire(timeout=max(0.0, until - time.monotonic()))
        except BaseException:  # of a signal's handler
            self._withdraw(caller)
            raise
        if not in_time and not self._withdraw(caller):
            in_time = caller.waits.acquire()  # it is being told in this moment
        if in_time:
            return caller.result
        self._give_up()
        if until < deadline:
            return None
        raise too_late()

    def finish(self) -> None:
        """Take no more pushes; what was sent is answered."""
        with self._lock:
            if not self._finished:
                self._finished = True
                self._outgoing.put(None)

    def run(self, method: Any) -> None:
        failed = True
        try:
            call = self._call = method(self._messages())
            call.initial_metadata()  # is there when the stream is accepted, or has failed
            if call.is_active():
                self.accepted = True
                self.replaced_at = end_of_age()
                self._on_accepted(self)
            for response in call:
                self._arrived(response)
            failed = False
        except (grpc.RpcError, TowlineError, ValueError):
            pass  # that it was refused or broke, that a token cannot be read, a closed channel
        finally:
            self._over()
            self._ends(failed=failed)

    def _arrived(self, response: PushStreamResponse) -> None:
        self.answered = True
        with self._lock:
            waiting = self._waiting
            callers = [waiting.pop(result.sequence, None) for result in response.results]
        for caller, result in zip(callers, response.results, strict=True):
            if caller is not None:
                caller.result = result
                caller.waits.release()
        if response.closing:
            self.finish()
            self._ends(failed=False)

    def _messages(self) -> Iterator[bytes]:
        while (first := self._next()) is not None:
            parts, size = [first], len(first)
            ends = False
            while size < JOINED_BYTES and len(parts) < JOINED:
                try:
                    part = self._outgoing.get_nowait()
                except Empty:
                    break
                if part is None:
                    ends = True
                    break
                parts.append(part)
                size += len(part)
            yield first if len(parts) == 1 else b"".join(parts)
            if ends:
                return

    def _next(self) -> bytes | None:
        try:
            return self._outgoing.get(timeout=IDLE)
        except Empty:
            self.finish()
            self._ends(failed=False)
            return self._outgoing.get()  # what has come meanwhile, and at last None

    def _stalled(self, now: float) -> bool:
        oldest = next(iter(self._waiting.values()), None)
        return oldest is not None and now - oldest.began > STALLED

    def _withdraw(self, caller: _Caller) -> bool:
        """False: it has its answer, or will get none."""
        with self._lock:
            return self._waiting.pop(caller.sequence, None) is not None

    def _give_up(self) -> None:
        """Somebody got no answer. It is ended, once nobody hopes for one any more."""
        self.finish()
        self._ends(failed=True)
        with self._lock:
            hopeless = not self._waiting
        if hopeless:
            self._call.cancel()

    def _ends(self, *, failed: bool) -> None:
        with self._lock:
            failed, self._failed = failed and not self._failed, failed or self._failed
        self._on_ended(self, failed=failed)

    def _over(self) -> None:
        """Those who wait are to make calls."""
        self.finish()
        with self._lock:
            left, self._waiting = self._waiting, {}
        for caller in left.values():
            caller.waits.release()
