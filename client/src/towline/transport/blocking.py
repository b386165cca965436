"""Calls over gRPC from threads."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from typing import TypeVar

import grpc

from towline.channel import Connection
from towline.errors import ClientClosed, DeadlineExceeded, TowlineError
from towline.forks import around_forks, in_forked_children
from towline.transport.joining import Joining
from towline.transport.streaming import Streaming
from towline.unreached import explained
from towline.v1.admin_service_pb2 import StatsRequest, StatsResponse
from towline.v1.admin_service_pb2_grpc import AdminServiceStub
from towline.v1.queue_service_pb2 import (
    CancelJobRequest,
    CancelJobResponse,
    GetJobRequest,
    GetJobResponse,
    PushRequest,
    PushResponse,
)
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

Request = TypeVar("Request")
Response = TypeVar("Response")

# Channels that a process inherited by fork. They cannot be used there, and closing them, which is
# what the end of their last reference does, would wait for threads that exist in the parent only.
_inherited: list[object] = []

_transports: weakref.WeakSet[GrpcTransport] = weakref.WeakSet()


def _begin_anew() -> None:
    for transport in _transports:
        transport.forked()


in_forked_children(_begin_anew)

#: Seconds that a fork waits for streams to end.
_PATIENCE = 1.0


def _rest() -> None:
    """gRPC leaves its state in the child as it was in the parent if a call is under way there, and
    a stream is one that nobody sees. It is ended in a thread of its own: what forks may be the
    handler of a signal, above the holder of a lock."""
    running = []
    for streaming in _all_streaming():
        streaming.rest()
        if streaming.running:
            running.append(streaming)

    def end() -> None:
        for streaming in running:
            streaming.end()

    if running:
        ending = threading.Thread(target=end, name="towline-fork", daemon=True)
        with suppress(RuntimeError):  # no more threads: as if there were no streams
            ending.start()
            ending.join(_PATIENCE)


def _go_on() -> None:
    for streaming in _all_streaming():
        streaming.go_on()


def _all_streaming() -> list[Streaming]:
    return [found for transport in _transports if (found := transport.streaming) is not None]


around_forks(_rest, _go_on)


class _Open:
    """What lasts as long as a channel."""

    def __init__(self, transport: GrpcTransport, *, join: bool) -> None:
        self.channel = transport.connection.open()
        self.stub = QueueServiceStub(self.channel)
        self.joining = None
        self.streaming = None
        if join:
            self.joining = Joining(transport.push_alone, self._start, transport.error_of)
            if not transport.connection.in_this_process:  # which saves nobody anything
                self.streaming = Streaming(self.channel)

    def _start(self, request: PushRequest, timeout: float) -> grpc.Future[PushResponse]:
        try:
            return self.stub.Push.future(request, timeout=timeout)
        except ValueError:  # grpc's way to say that the channel is closed
            raise ClientClosed from None

    def close(self) -> None:
        if self.joining is not None:
            self.joining.close()
        self.channel.close()


class GrpcTransport:
    """A channel that is opened with the first call, also again in a process that was forked off.

    With ``join``, jobs that several threads push one by one travel together, and where they come
    often over a stream.
    """

    def __init__(self, connection: Connection, *, join: bool) -> None:
        self.connection = connection
        self._join = join
        self._lock = threading.Lock()
        self._open: _Open | None = None
        self._closed = False
        _transports.add(self)

    @property
    def channel(self) -> grpc.Channel:
        return self._opened().channel

    @property
    def stub(self) -> QueueServiceStub:
        return self._opened().stub

    def push(self, request: PushRequest, timeout: float) -> PushResponse:
        opened = self._opened()
        if opened.joining is None or len(request.jobs) != 1 or request.allow_partial:
            return self.push_alone(request, timeout)
        deadline = time.monotonic() + timeout
        try:
            if opened.streaming is not None:
                response = opened.streaming.push(request, timeout)
                if response is not None:
                    return response
            return opened.joining.push(request, deadline - time.monotonic())
        except DeadlineExceeded as error:
            raise explained(error, opened.channel, self.connection) from error.__cause__

    def push_alone(self, request: PushRequest, timeout: float) -> PushResponse:
        """Push by a call of its own."""
        return self._call(self.stub.Push, request, timeout)

    def get_job(self, request: GetJobRequest, timeout: float) -> GetJobResponse:
        return self._call(self.stub.GetJob, request, timeout)

    def cancel_job(self, request: CancelJobRequest, timeout: float) -> CancelJobResponse:
        return self._call(self.stub.CancelJob, request, timeout)

    def stats(self, request: StatsRequest, timeout: float) -> StatsResponse:
        return self._call(AdminServiceStub(self.channel).Stats, request, timeout)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            opened, self._open = self._open, None
        if opened is not None:
            opened.close()

    @property
    def streaming(self) -> Streaming | None:
        """None if it pushes by calls only, or has not begun."""
        opened = self._open
        return opened.streaming if opened is not None else None

    def forked(self) -> None:
        """Begin anew in a process that was forked off, where nothing of the parent's works."""
        _inherited.append(self._open)
        self._open = None
        self._lock = threading.Lock()

    def error_of(self, error: grpc.RpcError) -> TowlineError:
        """Return what a failed call means."""
        if self._closed and getattr(error, "code", lambda: None)() is grpc.StatusCode.CANCELLED:
            return ClientClosed()
        return self.connection.error_of(error)

    def _opened(self) -> _Open:
        with self._lock:
            if self._closed:
                raise ClientClosed
            if self._open is None:
                self._open = _Open(self, join=self._join)
            return self._open

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float,
    ) -> Response:
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            failed = self.error_of(error)
            if isinstance(failed, DeadlineExceeded):
                failed = explained(failed, self.channel, self.connection)
            raise failed from error
        except ValueError:  # grpc's way to say that the channel is closed
            if self._closed:
                raise ClientClosed from None
            raise
