"""Calls over gRPC from asyncio."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio

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

if TYPE_CHECKING:
    from towline.v1.queue_service_pb2_grpc import QueueServiceAsyncStub

Request = TypeVar("Request")
Response = TypeVar("Response")

# As in towline.transport.blocking.
_inherited: list[object] = []


class AsyncGrpcTransport:
    """A channel of the running event loop; used in another loop, it opens one there."""

    def __init__(self, connection: Connection, *, join: bool) -> None:
        self.connection = connection
        self._join = join
        self._open: tuple[grpc.aio.Channel, QueueServiceAsyncStub] | None = None
        self._owner: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._closed = False

    @property
    def channel(self) -> grpc.aio.Channel:
        return self._opened()[0]

    @property
    def stub(self) -> QueueServiceAsyncStub:
        return self._opened()[1]

    async def push(self, request: PushRequest, timeout: float) -> PushResponse:
        return await self._call(self.stub.Push, request, timeout)

    async def get_job(self, request: GetJobRequest, timeout: float) -> GetJobResponse:
        return await self._call(self.stub.GetJob, request, timeout)

    async def cancel_job(self, request: CancelJobRequest, timeout: float) -> CancelJobResponse:
        return await self._call(self.stub.CancelJob, request, timeout)

    async def close(self) -> None:
        self._closed = True
        if self._open is not None and self._owner == _here():
            channel, _ = self._open
            self._open = None
            await channel.close()

    def _opened(self) -> tuple[grpc.aio.Channel, QueueServiceAsyncStub]:
        if self._closed:
            raise ClientClosed
        if self._open is not None and self._owner != _here():
            if self._owner is not None and self._owner[0] != os.getpid():
                _inherited.append(self._open)
            self._open = None
        if self._open is None:
            channel = self.connection.open_aio()
            self._open = channel, QueueServiceStub(channel)
            self._owner = _here()
        return self._open

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float,
    ) -> Response:
        with self.connection.errors():
            return await method(request, timeout=timeout)


def _here() -> tuple[int, asyncio.AbstractEventLoop]:
    return os.getpid(), asyncio.get_running_loop()
