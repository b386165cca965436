"""Pushes of several threads travel together; towline.transport.lines tells how.

No thread makes a call in which jobs of others travel: those calls are gRPC's futures, and what
happens to one caller, be it a signal or the end of its time, is of no concern to the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import grpc

from towline.errors import ClientClosed, TowlineError
from towline.transport.lines import (
    GATHERING,
    Line,
    deliver,
    parts_of,
    request_for,
    too_late,
)
from towline.v1 import job_pb2
from towline.v1.queue_service_pb2 import PushRequest, PushResponse


class _Caller:
    """A thread that waits for the outcome of its job."""

    def __init__(self, message: job_pb2.Job, deadline: float) -> None:
        self.message = message
        self.size = message.ByteSize()
        self.deadline = deadline
        self._response = PushResponse()
        self._error: Exception | None = None
        self._waits = threading.Lock()
        self._waits.acquire()

    def arrived(self, response: PushResponse) -> None:
        self._response = response
        self._waits.release()

    def failed(self, error: Exception) -> None:
        self._error = error
        self._waits.release()

    def left(self) -> float:
        """Seconds of its time, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def wait(self, seconds: float) -> bool:
        """Return whether the outcome is there. Not to be called again once it is."""
        return self._waits.acquire(timeout=seconds)

    def outcome(self) -> PushResponse:
        if self._error is not None:
            raise self._error
        return self._response


class Joining:
    """The pushes of one process over one channel.

    ``push`` makes a call at once and returns the answer; ``start`` only sends it. ``error_of``
    tells what a failure of either means.
    """

    def __init__(
        self,
        push: Callable[[PushRequest, float], PushResponse],
        start: Callable[[PushRequest, float], grpc.Future[PushResponse]],
        error_of: Callable[[grpc.RpcError], TowlineError],
    ) -> None:
        self._push_alone = push
        self._start = start
        self._error_of = error_of
        self._lock = threading.Lock()
        self._lines: dict[str, Line[_Caller]] = {}
        self._closed = False

    def push(self, request: PushRequest, timeout: float) -> PushResponse:
        """Push the one job of a request. Raises as Transport.push does."""
        [message] = request.jobs
        caller = _Caller(message, time.monotonic() + timeout)
        first = False
        leaving: Sequence[_Caller] = ()
        with self._lock:
            if self._closed:
                raise ClientClosed
            line = self._lines.get(message.queue)
            if line is None:
                line = self._lines[message.queue] = Line(message.queue)
            alone = line.go()
            if not alone:
                first = line.add(caller)
                leaving = line.leave() if line.full else ()
        if alone:
            try:
                return self._push_alone(request, timeout)
            finally:
                self._ended(line)
        try:
            self._send(line, leaving)
            return self._wait(line, caller, first=first)
        except BaseException:
            self._withdraw(line, caller)
            raise

    def close(self) -> None:
        """End the waiting of those whose jobs have not left, with ClientClosed."""
        with self._lock:
            self._closed = True
            left_behind = [caller for line in self._lines.values() for caller in line.abandon()]
        for caller in left_behind:
            caller.failed(ClientClosed())

    def _wait(self, line: Line[_Caller], caller: _Caller, *, first: bool) -> PushResponse:
        if first and caller.left() > GATHERING:
            if caller.wait(GATHERING):
                return caller.outcome()
            with self._lock:
                leaving = line.leave() if line.holds(caller) else []
            self._send(line, leaving)
        if caller.wait(caller.left()):
            return caller.outcome()
        raise too_late(sent=not self._withdraw(line, caller))

    def _withdraw(self, line: Line[_Caller], caller: _Caller) -> bool:
        """Leave the line, and its others to themselves. Return False if the job has been sent."""
        with self._lock:
            waited = line.remove(caller)
            leaving = line.leave() if waited else []
        self._send(line, leaving)
        return waited

    def _send(self, line: Line[_Caller], leaving: Sequence[_Caller]) -> None:
        """Start a call for those who leave together, if any do."""
        if not leaving:
            return
        try:
            call = self._start(*request_for(leaving))
        except Exception as error:  # closed meanwhile, or out of threads
            for caller in leaving:
                caller.failed(error)
            self._ended(line)
            return
        call.add_done_callback(lambda call: self._answered(line, leaving, call))

    def _answered(
        self,
        line: Line[_Caller],
        passengers: Sequence[_Caller],
        call: grpc.Future[PushResponse],
    ) -> None:
        """Runs in a thread of gRPC's."""
        try:
            deliver(passengers, call.result())
        except grpc.RpcError as error:
            self._refused(line, passengers, error)
        self._ended(line)

    def _refused(
        self, line: Line[_Caller], passengers: Sequence[_Caller], error: grpc.RpcError
    ) -> None:
        parts = parts_of(passengers, self._error_of(error))
        if not parts:
            for caller in passengers:
                caller.failed(self._error_of(error))  # its own: each is raised in another thread
        for part in parts:
            with self._lock:
                line.divided()
            self._send(line, part)

    def _ended(self, line: Line[_Caller]) -> None:
        """Take note of the end of a call; those who have gathered leave now."""
        with self._lock:
            if line.ended():
                del self._lines[line.queue]
            leaving = line.leave()
        self._send(line, leaving)
