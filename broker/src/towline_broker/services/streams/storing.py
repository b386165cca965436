"""Pushes of all streams, stored together."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

from towline.v1.queue_service_pb2 import PushResult as PushResultMessage
from towline_broker.core.calls import ToStore
from towline_broker.core.producing import Producing
from towline_broker.domain.errors import StoreError
from towline_broker.drivers.interface import PushResult

#: Pushes of one job each that make up one batch.
MOST_JOINED = 1_000


class ReadPush(Struct, gc=False):
    """A push of a stream, of which nothing is wrong, or not with all of its jobs."""

    sequence: int
    jobs: Sequence[ToStore]
    #: Jobs that are wrong are refused for themselves.
    partial: bool
    #: Those that were, by their places in the push.
    rejected: Mapping[int, PushResultMessage]
    #: Bytes of messages that are owed its answer.
    size: int
    #: The store that the queue of its one job is at home in; empty: it is not joined with others.
    home: str
    #: Its bytes, and when it came (nanoseconds of the Unix epoch), if somebody wants to know.
    raw: bytes = b""
    began: int = 0


class Pushing(Protocol):
    """A stream of pushes."""

    #: In the order in which they came.
    pending: deque[ReadPush]
    #: A batch of it is under way.
    storing: bool

    def stored(self, push: ReadPush, results: Sequence[PushResult]) -> None:
        """One result for each of its jobs."""

    def failed(self, push: ReadPush, error: Exception) -> None: ...


_Batch: TypeAlias = list[tuple[Pushing, ReadPush]]


class Storing:
    """What came on all streams in one turn of the event loop is one batch for its store. Of each
    stream one batch is under way at most, so its jobs are stored in the order in which they came;
    meanwhile those that come behind them gather."""

    def __init__(self, jobs: Producing) -> None:
        self._jobs = jobs
        self._waiting: dict[Pushing, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        #: A batch is of several calls, and acts for none of them.
        self._context = contextvars.Context()

    def add(self, stream: Pushing) -> None:
        """It has something pending."""
        if stream.storing:
            return  # its turn comes when what is under way is stored
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._begin, context=self._context)
        self._waiting[stream] = None

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, {}
        batches: list[_Batch] = []
        joined: dict[str, _Batch] = {}
        for stream in waiting:
            if not stream.pending:  # it is over
                continue
            home = stream.pending[0].home
            batch = joined.get(home) if home else None
            if batch is None or len(batch) >= MOST_JOINED:
                batch = []
                batches.append(batch)
                if home:
                    joined[home] = batch
            _move(stream, home, batch)
        loop = asyncio.get_running_loop()
        for batch in batches:
            task = loop.create_task(self._store(batch), context=self._context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _store(self, batch: _Batch) -> None:
        await self._together(batch)
        for stream in {stream: None for stream, _ in batch}:
            stream.storing = False
            if stream.pending:
                self.add(stream)

    async def _together(self, batch: _Batch) -> None:
        whole = len(batch) == 1 and not batch[0][1].partial
        jobs = [job for _, push in batch for job in push.jobs]
        try:
            results = await self._jobs.push(jobs, all_or_nothing=whole) if jobs else []
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreError):
                for each in batch:  # it may be the fault of one
                    await self._together([each])
                return
            for stream, push in batch:
                stream.failed(push, error)
            return
        start = 0
        for stream, push in batch:
            end = start + len(push.jobs)
            stream.stored(push, results[start:end])
            start = end


def _move(stream: Pushing, home: str, batch: _Batch) -> None:
    """What it has for this batch: all that may be joined, up to the first that may not."""
    pending = stream.pending
    stream.storing = True
    batch.append((stream, pending.popleft()))
    while home and pending and pending[0].home == home and len(batch) < MOST_JOINED:
        batch.append((stream, pending.popleft()))
