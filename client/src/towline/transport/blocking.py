"""Calls over gRPC from threads."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TypeVar

import grpc

from towline.channel import Connection
from towline.errors import ClientClosed
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


@dataclass(frozen=True)
class _Open:
    """What belongs to one process."""

    pid: int
    channel: grpc.Channel
    stub: QueueServiceStub


class GrpcTransport:
    """A channel that is opened with the first call, also again in a process that was forked off."""

    def __init__(self, connection: Connection, *, join: bool) -> None:
        self.connection = connection
        self._join = join
        self._lock = threading.Lock()
        self._open: _Open | None = None
        self._closed = False

    @property
    def channel(self) -> grpc.Channel:
        return self._opened().channel

    @property
    def stub(self) -> QueueServiceStub:
        return self._opened().stub

    def push(self, request: PushRequest, timeout: float) -> PushResponse:
        return self._call(self.stub.Push, request, timeout)

    def get_job(self, request: GetJobRequest, timeout: float) -> GetJobResponse:
        return self._call(self.stub.GetJob, request, timeout)

    def cancel_job(self, request: CancelJobRequest, timeout: float) -> CancelJobResponse:
        return self._call(self.stub.CancelJob, request, timeout)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._open is not None and self._open.pid == os.getpid():
                self._open.channel.close()
                self._open = None

    def _opened(self) -> _Open:
        with self._lock:
            if self._closed:
                raise ClientClosed
            if self._open is not None and self._open.pid != os.getpid():
                _inherited.append(self._open)
                self._open = None
            if self._open is None:
                channel = self.connection.open()
                self._open = _Open(os.getpid(), channel, QueueServiceStub(channel))
            return self._open

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float,
    ) -> Response:
        with self.connection.errors():
            return method(request, timeout=timeout)
