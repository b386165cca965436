"""The client of producers: dispatch jobs, look at them, await their results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload
from uuid import UUID

import grpc

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
from towline.handles import JobHandle
from towline.jobs import JobFunction
from towline.middleware.interface import ClientMiddleware
from towline.middleware.pushing import PushMiddleware
from towline.options import DispatchOptions
from towline.requests import CancelOutcome, Data, Dispatchable, PreparedJob, Pushed
from towline.serializers import JSON, Serializer, Serializers, check_serializer
from towline.status import JobStatus, read_info
from towline.transport import Address, GrpcTransport, transport_for
from towline.v1 import admin_service_pb2, job_pb2, queue_service_pb2
from towline.v1.queue_service_pb2_grpc import QueueServiceStub
from towline.waiting import Patience, Waiting, WaitingForAll, Watching

T = TypeVar("T")


class Client:
    """Dispatches jobs to a broker, and asks about them. Safe from any thread.

        with Client("127.0.0.1:7480") as client:
            client.dispatch(SendEmail(to="a@b.c"), delay=300)

    ``address``: see towline.channel.parse_address; without one, the environment variable
    TOWLINE_URL or 127.0.0.1:7480. For tests, ``memory://`` is a broker within this process, and
    ``sync://`` runs jobs where they are dispatched. ``credentials`` are TlsCredentials, or those of
    grpc; ``token`` says who calls, as a string or a BearerToken, which can stand in a file. What is
    not given the environment says: see towline.channel.Connection.to. ``call_timeout`` is the
    deadline of a call in seconds, repeats included; each method takes another for one call.
    ``serializer`` writes arguments: towline.serializers. ``middleware`` runs around each dispatch,
    the first being the outermost: see towline.middleware. ``join_pushes``: jobs that threads
    dispatch at the same time travel together (towline.transport.lines).

    It connects with its first call, also again in a process that was forked off.

    Every method raises ClientClosed after ``close``, and what its call fails with: a CallFailed, of
    which towline.errors lists the kinds. The constructor raises ConfigurationError.
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
        self._middleware = PushMiddleware(middleware)
        self._transport = transport_for(
            address, credentials, token, self._timeout, join=join_pushes
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel. Calls that are under way end with ClientClosed."""
        self._transport.close()

    @property
    def connection(self) -> Connection:
        """How the broker is reached. This and the next two raise ConfigurationError for a client
        without a server."""
        return self._grpc().connection

    @property
    def channel(self) -> grpc.Channel:
        """The channel of this process, for calls that this class does not offer."""
        return self._grpc().channel

    @property
    def queue_service(self) -> QueueServiceStub:
        """The plain calls of the service, on this channel. They raise grpc.RpcError."""
        return self._grpc().stub

    def _grpc(self) -> GrpcTransport:
        if isinstance(self._transport, GrpcTransport):
            return self._transport
        raise ConfigurationError("this client runs without a server: it has no gRPC channel")

    @overload
    def dispatch(
        self,
        job: Dispatchable,
        /,
        *,
        call_timeout: float | None = None,
        **options: Unpack[DispatchOptions],
    ) -> JobHandle: ...

    @overload
    def dispatch(
        self,
        job: str,
        data: Data | None = None,
        /,
        *,
        call_timeout: float | None = None,
        **options: Unpack[DispatchOptions],
    ) -> JobHandle: ...

    @overload
    def dispatch(
        self,
        job: JobFunction[..., Any],
        data: Data | None = None,
        /,
        *,
        call_timeout: float | None = None,
        **arguments: Any,
    ) -> JobHandle: ...

    def dispatch(
        self,
        job: object,
        data: Data | None = None,
        /,
        *,
        call_timeout: float | None = None,
        **arguments: Any,
    ) -> JobHandle:
        """Hand one job to the broker; when this returns, the broker has stored it.

        ``job`` is a Job, the name of a type with its ``data``, or a function with ``@job`` and its
        arguments. ``arguments`` are else DispatchOptions, which come before the policy of the job;
        a name has none of the policy of its class, even if that is imported here.
        A queue that is full is waited for, as long as ``call_timeout`` allows it.

        Raises InvalidJob for impossible options and InvalidPayload for arguments that do not fit.
        """
        message = requests.job_message(job, data, arguments, self._serializer)
        return self._push_one(message, call_timeout)

    def prepare(self, job: object, data: Data | None = None, /, **arguments: Any) -> PreparedJob:
        """Check and encode a job as ``dispatch`` does, and give it its id, without pushing it.

        For a push that comes later, such as after the commit of a transaction: dispatch what this
        returns. Raises InvalidJob and InvalidPayload.
        """
        return PreparedJob(requests.job_message(job, data, arguments, self._serializer))

    def push_raw(
        self,
        queue: str,
        type: str,
        payload: bytes,
        /,
        *,
        content_type: str = JSON.content_type,
        call_timeout: float | None = None,
        **options: Unpack[DispatchOptions],
    ) -> JobHandle:
        """Hand over a job with a payload of the caller's own making. Raises InvalidJob."""
        message = requests.raw_message(queue, type, payload, content_type, options)
        return self._push_one(message, call_timeout)

    def dispatch_batch(
        self,
        jobs: Iterable[Dispatchable],
        *,
        allow_partial: bool = False,
        call_timeout: float | None = None,
        **options: Unpack[DispatchOptions],
    ) -> list[JobHandle]:
        """Hand any number of jobs to the broker; returns a handle for each, in their order.

        ``options`` are for every job; a JobRequest has options of its own, which come first. The
        jobs travel in calls of up to 1,000 jobs and 3 MiB. Each call is stored as a whole or not at
        all, unless ``allow_partial``: then the broker stores what it can. ``call_timeout`` is for
        each call. A list is checked as a whole before the first call; a generator is sent while it
        is read, so that it may be of any length.

        Raises BatchFailed when some jobs were stored and some not; any other exception of
        towline.errors means that none was (as far as one can know, see there). What a generator
        itself raises ends the batch; a note tells how many of its jobs had been stored.
        """
        batch = Batch(jobs, options, allow_partial=allow_partial, serializer=self._serializer)
        try:
            for job in jobs:
                for part in batch.read(job):
                    self._push_part(batch, part, call_timeout)
            for part in batch.rest():
                self._push_part(batch, part, call_timeout)
        except BaseException as error:
            batch.interrupted(error)
            raise
        return [JobHandle(self, pushed) for pushed in batch.outcomes()]

    def get(self, job_id: str | UUID, *, call_timeout: float | None = None) -> JobStatus:
        """Return what has become of a job. Raises NotFound."""
        return self._get(job_id, 0.0, call_timeout)

    def wait(self, job_id: str | UUID, timeout: Seconds | None = None) -> JobStatus:
        """Return the job once it has ended, however it ended.

        ``timeout`` is in seconds or a timedelta; None waits for as long as it takes. A restart of
        the broker is waited out. Raises ResultTimeout, and NotFound.
        """
        waiting = Waiting(str(job_id), timeout)
        while True:
            try:
                status = self._get(job_id, waiting.next_slice(), None)
            except CallFailed as error:
                time.sleep(waiting.failed(error))
                continue
            if status.ended:
                return status
            waiting.answered(status)

    def wait_all(
        self, handles: Iterable[JobHandle], timeout: Seconds | None = None
    ) -> list[JobStatus]:
        """Return the jobs of these handles once all have ended, in their order, however they ended.

        ``status.outcome()`` is the result of each, or raises what ``handle.result()`` would.
        ``timeout`` is for all together; raises as ``wait`` does.
        """
        waiting = WaitingForAll(timeout)
        return [handle.wait(waiting.left()) for handle in handles]

    def watch(
        self, job_id: str | UUID, *, interval: Seconds = 0.5, timeout: Seconds | None = None
    ) -> Iterator[JobStatus]:
        """Yield the job as it is now, and again for each change of state, attempt or progress.

        Ends after its end. The broker is asked every ``interval`` seconds (0.05 at least), so that
        of changes in between only the last is seen; the end is told at once. ``timeout`` and what
        is raised are those of ``wait``.
        """
        watching = Watching(str(job_id), interval, timeout)
        while True:
            try:
                status = self._get(job_id, watching.next_slice(), None)
            except CallFailed as error:
                time.sleep(watching.failed(error))
                continue
            if watching.news(status):
                yield status
            if status.ended:
                return
            watching.answered(status)

    def cancel(
        self, *job_ids: str | UUID, call_timeout: float | None = None
    ) -> dict[str, CancelOutcome]:
        """Cancel jobs, any number of them; returns what came of each, by its id."""
        outcomes: dict[str, CancelOutcome] = {}
        for request in requests.cancel_requests(job_ids):
            response = self._transport.cancel_job(request, self._seconds(call_timeout))
            outcomes.update(requests.read_cancel(response))
        return outcomes

    def stats(self, *queues: str, call_timeout: float | None = None) -> Stats:
        """Return the figures of these queues, or of all. Raises NotFound for one that is not there.

            client.stats("emails").total.pending

        A queue comes into being with its first job.
        """
        request = admin_service_pb2.StatsRequest(queues=queues)
        return read_stats(self._transport.stats(request, self._seconds(call_timeout)))

    def handle(self, job_id: str | UUID) -> JobHandle:
        """Return a handle of a job that was dispatched before, here or elsewhere."""
        return JobHandle(self, Pushed(requests.check_id(job_id), created=False))

    def _push_one(self, message: job_pb2.Job, call_timeout: float | None) -> JobHandle:
        [stored] = self._around([message], lambda: self._push_single(message, call_timeout))
        return JobHandle(self, stored)

    def _around(
        self, messages: Sequence[job_pb2.Job], push: Callable[[], list[Pushed]]
    ) -> list[Pushed]:
        """Push with the middleware around it, in the thread and the context that dispatch."""
        if not self._middleware.wraps:
            return push()
        return self._middleware.run(messages, push)

    def _push_single(self, message: job_pb2.Job, call_timeout: float | None) -> list[Pushed]:
        try:
            response = self._push(requests.push_one(message), call_timeout)
        except CallFailed as error:
            raise requests.relocated(error) from error.__cause__
        return [requests.read_push_one(response, message)]

    def _push_part(self, batch: Batch, part: Part, call_timeout: float | None) -> None:
        try:
            pushed = self._around(part.messages, lambda: self._push_calls(part, call_timeout))
        except TowlineError as error:
            batch.failed(part, error)
        else:
            batch.stored(part, pushed)

    def _push_calls(self, part: Part, call_timeout: float | None) -> list[Pushed]:
        for start, request in part.requests():
            try:
                part.answered(start, request, self._push(request, call_timeout))
            except CallFailed as error:
                part.failed(start, error)
                break
        return part.outcomes()

    def _push(
        self, request: queue_service_pb2.PushRequest, call_timeout: float | None
    ) -> queue_service_pb2.PushResponse:
        """Every Push goes through here. A full broker is waited for, as long as time is left."""
        patience = Patience(self._seconds(call_timeout))
        while True:
            try:
                return self._transport.push(request, patience.left)
            except ResourceExhausted as error:
                pause = patience.refused(error)
            except BrokerUnavailable as error:
                pause = patience.unavailable(error)
            time.sleep(pause)

    def _get(self, job_id: str | UUID, wait: float, call_timeout: float | None) -> JobStatus:
        request = requests.get_request(job_id, wait)
        response = self._transport.get_job(request, self._seconds(call_timeout) + wait)
        status = read_info(response.job, self._serializers)
        return status if status.content_type else status.written_as(self._serializer.content_type)

    def _seconds(self, call_timeout: float | None) -> float:
        return self._timeout if call_timeout is None else check_timeout(call_timeout)
