"""The client of producers, for asyncio; what it does is told at towline.client.Client."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload
from uuid import UUID

import grpc
import grpc.aio

from towline import requests
from towline.batches import Batch, Part
from towline.bearer import BearerToken
from towline.channel import Connection, Credentials, check_timeout
from towline.durations import Seconds
from towline.errors import (
    BrokerUnavailable,
    CallFailed,
    ConfigurationError,
    ResourceExhausted,
    TowlineError,
)
from towline.figures import Stats, read_stats
from towline.handles import AsyncJobHandle
from towline.jobs import JobFunction
from towline.middleware.interface import ClientMiddleware
from towline.middleware.pushing import PushMiddleware
from towline.options import DispatchOptions
from towline.requests import CancelOutcome, Data, Dispatchable, PreparedJob, Pushed
from towline.serializers import JSON, Serializer, Serializers, check_serializer
from towline.status import JobStatus, read_info
from towline.transport import Address, AsyncGrpcTransport, async_transport_for
from towline.v1 import admin_service_pb2, job_pb2, queue_service_pb2
from towline.waiting import Patience, Waiting, WaitingForAll, Watching

if TYPE_CHECKING:
    from towline.v1.queue_service_pb2_grpc import QueueServiceAsyncStub

T = TypeVar("T")


class AsyncClient:
    """Client with await.

        async with AsyncClient("127.0.0.1:7480") as client:
            await client.dispatch(SendEmail(to="a@b.c"), delay=300)

    Arguments and exceptions are those of Client. For use within one event loop; used in another,
    it opens a channel there.
    """

    def __init__(
        self,
        address: Address | None = None,
        *,
        credentials: Credentials | None = None,
        token: BearerToken | str | None = None,
        call_timeout: float = 10.0,
        join_pushes: bool = True,
        serializer: Serializer = JSON,
        middleware: Iterable[ClientMiddleware] = (),
    ) -> None:
        self._timeout = check_timeout(call_timeout)
        self._serializer = check_serializer(serializer, "serializer")
        self._serializers = Serializers([serializer])
        self._middleware = PushMiddleware(middleware, has_loop=True)
        self._transport = async_transport_for(
            address, credentials, token, self._timeout, join=join_pushes
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel. Calls that are under way end with ClientClosed."""
        await self._transport.close()

    @property
    def connection(self) -> Connection:
        """Client.connection."""
        return self._grpc().connection

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel of the running event loop, for calls that this class does not offer."""
        return self._grpc().channel

    @property
    def queue_service(self) -> QueueServiceAsyncStub:
        """The plain calls of the service, on this channel. They raise grpc.RpcError."""
        return self._grpc().stub

    def _grpc(self) -> AsyncGrpcTransport:
        if isinstance(self._transport, AsyncGrpcTransport):
            return self._transport
        raise ConfigurationError("this client runs without a server: it has no gRPC channel")

    @overload
    async def dispatch(
        self,
        job: Dispatchable,
        /,
        *,
        call_timeout: float | None = None,
        **options: Unpack[DispatchOptions],
    ) -> AsyncJobHandle: ...

    @overload
    async def dispatch(
        self,
        job: str,
        data: Data | None = None,
        /,
        *,
        call_timeout: float | None = None,
        **options: Unpack[DispatchOptions],
    ) -> AsyncJobHandle: ...

    @overload
    async def dispatch(
        self,
        job: JobFunction[..., Any],
        data: Data | None = None,
        /,
        *,
        call_timeout: float | None = None,
        **arguments: Any,
    ) -> AsyncJobHandle: ...

    async def dispatch(
        self,
        job: object,
        data: Data | None = None,
        /,
        *,
        call_timeout: float | None = None,
        **arguments: Any,
    ) -> AsyncJobHandle:
        """Client.dispatch."""
        message = requests.job_message(job, data, arguments, self._serializer)
        return await self._push_one(message, call_timeout)

    def prepare(self, job: object, data: Data | None = None, /, **arguments: Any) -> PreparedJob:
        """Client.prepare; it takes no await."""
        return PreparedJob(requests.job_message(job, data, arguments, self._serializer))

    async def push_raw(
        self,
        queue: str,
        type: str,
        payload: bytes,
        /,
        *,
        content_type: str = JSON.content_type,
        call_timeout: float | None = None,
        **options: Unpack[DispatchOptions],
    ) -> AsyncJobHandle:
        """Client.push_raw."""
        message = requests.raw_message(queue, type, payload, content_type, options)
        return await self._push_one(message, call_timeout)

    async def dispatch_batch(
        self,
        jobs: Iterable[Dispatchable] | AsyncIterable[Dispatchable],
        *,
        allow_partial: bool = False,
        call_timeout: float | None = None,
        **options: Unpack[DispatchOptions],
    ) -> list[AsyncJobHandle]:
        """Client.dispatch_batch; ``jobs`` may also be an async generator."""
        batch = Batch(
            jobs,
            options,
            allow_partial=allow_partial,
            serializer=self._serializer,
            may_be_async=True,
        )
        try:
            if isinstance(jobs, AsyncIterable):
                async for job in jobs:
                    for part in batch.read(job):
                        await self._push_part(batch, part, call_timeout)
            else:
                for job in jobs:
                    for part in batch.read(job):
                        await self._push_part(batch, part, call_timeout)
            for part in batch.rest():
                await self._push_part(batch, part, call_timeout)
        except BaseException as error:
            batch.interrupted(error)
            raise
        return [AsyncJobHandle(self, pushed) for pushed in batch.outcomes()]

    async def get(self, job_id: str | UUID, *, call_timeout: float | None = None) -> JobStatus:
        """Client.get."""
        return await self._get(job_id, 0.0, call_timeout)

    async def wait(self, job_id: str | UUID, timeout: Seconds | None = None) -> JobStatus:
        """Client.wait."""
        waiting = Waiting(str(job_id), timeout)
        while True:
            try:
                status = await self._get(job_id, waiting.next_slice(), None)
            except CallFailed as error:
                await asyncio.sleep(waiting.failed(error))
                continue
            if status.ended:
                return status
            waiting.answered(status)

    async def wait_all(
        self, handles: Iterable[AsyncJobHandle], timeout: Seconds | None = None
    ) -> list[JobStatus]:
        """Client.wait_all. (``asyncio.gather(*handles)`` gives the results.)"""
        waiting = WaitingForAll(timeout)
        return [await handle.wait(waiting.left()) for handle in handles]

    async def watch(
        self, job_id: str | UUID, *, interval: Seconds = 0.5, timeout: Seconds | None = None
    ) -> AsyncIterator[JobStatus]:
        """Client.watch."""
        watching = Watching(str(job_id), interval, timeout)
        while True:
            try:
                status = await self._get(job_id, watching.next_slice(), None)
            except CallFailed as error:
                await asyncio.sleep(watching.failed(error))
                continue
            if watching.news(status):
                yield status
            if status.ended:
                return
            watching.answered(status)

    async def cancel(
        self, *job_ids: str | UUID, call_timeout: float | None = None
    ) -> dict[str, CancelOutcome]:
        """Client.cancel."""
        outcomes: dict[str, CancelOutcome] = {}
        for request in requests.cancel_requests(job_ids):
            response = await self._transport.cancel_job(request, self._seconds(call_timeout))
            outcomes.update(requests.read_cancel(response))
        return outcomes

    async def stats(self, *queues: str, call_timeout: float | None = None) -> Stats:
        """Client.stats."""
        request = admin_service_pb2.StatsRequest(queues=queues)
        return read_stats(await self._transport.stats(request, self._seconds(call_timeout)))

    def handle(self, job_id: str | UUID) -> AsyncJobHandle:
        """Client.handle."""
        return AsyncJobHandle(self, Pushed(requests.check_id(job_id), created=False))

    async def _push_one(self, message: job_pb2.Job, call_timeout: float | None) -> AsyncJobHandle:
        [stored] = await self._around([message], lambda: self._push_single(message, call_timeout))
        return AsyncJobHandle(self, stored)

    async def _around(
        self, messages: Sequence[job_pb2.Job], push: Callable[[], Awaitable[list[Pushed]]]
    ) -> list[Pushed]:
        """Push with the middleware around it, in the task and the context that dispatch."""
        if not self._middleware.wraps:
            return await push()
        return await self._middleware.run_async(messages, push)

    async def _push_single(self, message: job_pb2.Job, call_timeout: float | None) -> list[Pushed]:
        try:
            response = await self._push(requests.push_one(message), call_timeout)
        except CallFailed as error:
            raise requests.relocated(error) from error.__cause__
        return [requests.read_push_one(response, message)]

    async def _push_part(self, batch: Batch, part: Part, call_timeout: float | None) -> None:
        try:
            pushed = await self._around(part.messages, lambda: self._push_calls(part, call_timeout))
        except TowlineError as error:
            batch.failed(part, error)
        else:
            batch.stored(part, pushed)

    async def _push_calls(self, part: Part, call_timeout: float | None) -> list[Pushed]:
        for start, request in part.requests():
            try:
                part.answered(start, request, await self._push(request, call_timeout))
            except CallFailed as error:
                part.failed(start, error)
                break
        return part.outcomes()

    async def _push(
        self, request: queue_service_pb2.PushRequest, call_timeout: float | None
    ) -> queue_service_pb2.PushResponse:
        """Every Push goes through here. A full broker is waited for, as long as time is left."""
        patience = Patience(self._seconds(call_timeout))
        while True:
            try:
                return await self._transport.push(request, patience.left)
            except ResourceExhausted as error:
                pause = patience.refused(error)
            except BrokerUnavailable as error:
                pause = patience.unavailable(error)
            await asyncio.sleep(pause)

    async def _get(self, job_id: str | UUID, wait: float, call_timeout: float | None) -> JobStatus:
        request = requests.get_request(job_id, wait)
        response = await self._transport.get_job(request, self._seconds(call_timeout) + wait)
        status = read_info(response.job, self._serializers)
        return status if status.content_type else status.written_as(self._serializer.content_type)

    def _seconds(self, call_timeout: float | None) -> float:
        return self._timeout if call_timeout is None else check_timeout(call_timeout)
