"""Both ends of streams in tests: what was answered, by the number that it was asked under."""

import abc
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from tests.support.calls import Calls, seconds
from towline.ids import uuid7
from towline.v1.job_pb2 import Job, Lease
from towline.v1.queue_service_pb2 import (
    Ack,
    PushRequest,
    PushStreamRequest,
    PushStreamResponse,
    QueueChoice,
    StreamedPush,
    StreamedPushResult,
    WorkerDirective,
    WorkOpening,
    WorkRequest,
    WorkResponse,
    WorkResult,
)


class _Reader(abc.ABC):
    """Reads a stream to its end, and says when something that is waited for has come."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.closing = False
        self.responses = 0
        self._news = asyncio.Condition()
        self._over = False
        self._task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        try:
            while True:
                try:
                    response = await self.call.read()
                except (grpc.aio.AioRpcError, asyncio.CancelledError):
                    response = grpc.aio.EOF
                async with self._news:
                    if response is grpc.aio.EOF:
                        break
                    self.responses += 1
                    self.closing |= response.closing
                    self.take(response)
                    self._news.notify_all()
        finally:
            async with self._news:
                self._over = True
                self._news.notify_all()

    @abc.abstractmethod
    def take(self, response: Any) -> None:
        """A response has come."""

    async def until(self, done: Callable[[], Any], seconds: float = 30) -> None:
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: done() or self._over)
        assert done(), f"the stream has ended: {await self.ended()}"

    async def ended(self) -> grpc.StatusCode:
        """How it has ended; waits until it has."""
        async with asyncio.timeout(30):
            await self._task
            code: grpc.StatusCode = await self.call.code()
            return code

    async def finish(self) -> grpc.StatusCode:
        await self.call.done_writing()
        return await self.ended()

    async def abandon(self) -> None:
        self.call.cancel()
        await self._task


class Pushes(_Reader):
    """A PushStream."""

    def __init__(self, calls: Calls, **options: Any) -> None:
        super().__init__(calls.queue.PushStream(**options))
        self.results: dict[int, StreamedPushResult] = {}
        self._sequence = 0

    def take(self, response: PushStreamResponse) -> None:
        for result in response.results:
            assert result.sequence not in self.results, "answered twice"
            self.results[result.sequence] = result

    async def send(self, *jobs: Job, partial: bool = False) -> int:
        """One push of these jobs; returns its number."""
        request = PushRequest(jobs=jobs, allow_partial=partial)
        (sequence,) = await self.send_all([request])
        return sequence

    async def send_all(self, requests: "list[PushRequest]") -> list[int]:
        """All in one message."""
        first = self._sequence + 1
        self._sequence += len(requests)
        pushes = [StreamedPush(sequence=n, request=r) for n, r in enumerate(requests, first)]
        await self.call.write(PushStreamRequest(pushes=pushes))
        return list(range(first, first + len(requests)))

    async def answer(self, sequence: int) -> StreamedPushResult:
        await self.until(lambda: sequence in self.results)
        return self.results[sequence]

    async def push(self, *jobs: Job, **options: Any) -> StreamedPushResult:
        return await self.answer(await self.send(*jobs, **options))


class Works(_Reader):
    """A Work stream. Its leases are those of one hour, unless told otherwise."""

    def __init__(self, calls: Calls, **options: Any) -> None:
        super().__init__(calls.queue.Work(**options))
        self.leases: list[Lease] = []
        self.results: dict[int, WorkResult] = {}
        self.directives: list[WorkerDirective.ValueType] = []
        self._sequence = 0

    def take(self, response: WorkResponse) -> None:
        self.leases += response.leases
        for result in response.results:
            assert result.sequence not in self.results, "answered twice"
            self.results[result.sequence] = result
        if response.directive:
            self.directives.append(response.directive)

    async def open(self, *queues: str, credits: int = 0, **fields: Any) -> WorkResult:
        fields = {"lease": seconds(3600), **fields}
        choices = [QueueChoice(name=queue) for queue in queues or ("q",)]
        return await self.ask(open=WorkOpening(queues=choices, **fields), credits=credits)

    async def send(self, **fields: Any) -> int:
        self._sequence += 1
        await self.call.write(WorkRequest(sequence=self._sequence, **fields))
        return self._sequence

    async def answer(self, sequence: int) -> WorkResult:
        await self.until(lambda: sequence in self.results)
        return self.results[sequence]

    async def ask(self, **fields: Any) -> WorkResult:
        return await self.answer(await self.send(**fields))

    async def ack(self, *leases: Lease, **fields: Any) -> WorkResult:
        return await self.ask(acks=[Ack(lease_token=e.lease_token) for e in leases], **fields)

    async def leased(self, count: int) -> list[Lease]:
        """Waits until there were so many in all."""
        await self.until(lambda: len(self.leases) >= count)
        return self.leases


@asynccontextmanager
async def pushing(calls: Calls, **options: Any) -> AsyncIterator[Pushes]:
    stream = Pushes(calls, **options)
    try:
        yield stream
    finally:
        await stream.abandon()


@asynccontextmanager
async def working(calls: Calls, *queues: str, **fields: Any) -> AsyncIterator[Works]:
    """Opened for these queues, or else for "q"."""
    stream = Works(calls)
    try:
        await stream.open(*queues, **fields)
        yield stream
    finally:
        await stream.abandon()


def job(queue: str = "q", **fields: Any) -> Job:
    return Job(**{"id": uuid7(), "queue": queue, "type": "T", **fields})
