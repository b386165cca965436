"""Calls over gRPC from asyncio."""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio

from towline.channel import Connection
from towline.errors import ClientClosed, ConfigurationError, DeadlineExceeded, TowlineError
from towline.forks import in_forked_children
from towline.transport.joining_tasks import JoiningTasks
from towline.transport.streaming_tasks import StreamingTasks
from towline.unreached import explained_aio
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

if TYPE_CHECKING:
    from towline.v1.admin_service_pb2_grpc import AdminServiceAsyncStub
    from towline.v1.queue_service_pb2_grpc import QueueServiceAsyncStub

Request = TypeVar("Request")
Response = TypeVar("Response")

# As in towline.transport.blocking.
_inherited: list[object] = []
_transports: weakref.WeakSet[AsyncGrpcTransport] = weakref.WeakSet()


def _begin_anew() -> None:
    for transport in _transports:
        transport.forked()


in_forked_children(_begin_anew)


class _Open:
    """What lasts as long as a channel: in one event loop."""

    def __init__(self, transport: AsyncGrpcTransport, *, join: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.channel = transport.connection.open_aio()
        self.stub: QueueServiceAsyncStub = QueueServiceStub(self.channel)
        self.joining = None
        self.streaming = None
        if join:
            self.joining = JoiningTasks(transport.push_alone, self._push, transport.error_of)
            if not transport.connection.in_this_process:  # which saves nobody anything
                self.streaming = StreamingTasks(self.channel)

    async def _push(self, request: PushRequest, timeout: float) -> PushResponse:
        return await self.stub.Push(request, timeout=timeout)

    async def close(self) -> None:
        if self.joining is not None:
            self.joining.close()
            self.joining = None  # refers to this: grpc's threads end with the last reference
        if self.streaming is not None:
            await self.streaming.close()
        await self.channel.close()


class AsyncGrpcTransport:
    """A channel of the running event loop; used in another loop, it opens one there.

    With ``join``, jobs that several tasks push one by one travel together, and where they come
    often over a stream.
    """

    def __init__(self, connection: Connection, *, join: bool) -> None:
        self.connection = connection
        self._join = join
        self._open: _Open | None = None
        self._closed = False
        _transports.add(self)

    @property
    def channel(self) -> grpc.aio.Channel:
        return self._opened().channel

    @property
    def stub(self) -> QueueServiceAsyncStub:
        return self._opened().stub

    async def push(self, request: PushRequest, timeout: float) -> PushResponse:
        opened = self._opened()
        if opened.joining is None or len(request.jobs) != 1 or request.allow_partial:
            return await self.push_alone(request, timeout)
        deadline = time.monotonic() + timeout
        try:
            if opened.streaming is not None:
                response = await opened.streaming.push(request, timeout)
                if response is not None:
                    return response
            if self._closed:
                raise ClientClosed
            return await opened.joining.push(request, deadline - time.monotonic())
        except DeadlineExceeded as error:
            raise await explained_aio(error, opened.channel, self.connection) from error.__cause__

    async def push_alone(self, request: PushRequest, timeout: float) -> PushResponse:
        """Push by a call of its own."""
        return await self._call(self.stub.Push, request, timeout)

    async def get_job(self, request: GetJobRequest, timeout: float) -> GetJobResponse:
        return await self._call(self.stub.GetJob, request, timeout)

    async def cancel_job(self, request: CancelJobRequest, timeout: float) -> CancelJobResponse:
        return await self._call(self.stub.CancelJob, request, timeout)

    async def stats(self, request: StatsRequest, timeout: float) -> StatsResponse:
        admin: AdminServiceAsyncStub = AdminServiceStub(self.channel)
        return await self._call(admin.Stats, request, timeout)

    async def close(self) -> None:
        self._closed = True
        opened, self._open = self._open, None
        if opened is not None and opened.loop is asyncio.get_running_loop():
            await opened.close()

    def forked(self) -> None:
        """Begin anew in a process that was forked off, where nothing of the parent's works."""
        if self._open is not None:
            _inherited.append(self._open)
            self._open = None

    def error_of(self, error: grpc.RpcError) -> TowlineError:
        """Return what a failed call means."""
        return self.connection.error_of(error)

    def _opened(self) -> _Open:
        if self._closed:
            raise ClientClosed
        if _inherited:
            raise ConfigurationError(
                "an AsyncClient was open when this process was forked off, and grpc's part for "
                "asyncio does not survive that: close it before the fork, or use Client"
            )
        if self._open is not None and self._open.loop is not asyncio.get_running_loop():
            self._open = None
        if self._open is None:
            self._open = _Open(self, join=self._join)
        return self._open

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float,
    ) -> Response:
        try:
            return await method(request, timeout=timeout)
        except grpc.RpcError as error:
            failed = self.error_of(error)
            if isinstance(failed, DeadlineExceeded):
                failed = await explained_aio(failed, self.channel, self.connection)
            raise failed from error
        except (asyncio.CancelledError, grpc.aio.UsageError):
            if self._closed and not _being_cancelled():
                raise ClientClosed from None  # grpc cancels the calls of a channel that is closed
            raise


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
