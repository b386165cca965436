"""Acks of all streams, settled together."""

import asyncio
import contextvars
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from towline_broker.core.broker import Broker
from towline_broker.core.calls import AckCall, LeaseOutcome
from towline_broker.domain.errors import StoreError


class ReadAcks(Struct, gc=False):
    """A message of a stream that does nothing but ack, all of whose acks can be read."""

    sequence: int
    calls: Sequence[AckCall]
    #: Bytes of messages that are owed its answer.
    size: int


class Acking(Protocol):
    def acked(self, acks: ReadAcks, outcomes: Sequence[LeaseOutcome]) -> None: ...

    def ack_failed(self, acks: ReadAcks, error: Exception) -> None: ...


class Acks:
    """What came on all streams in one turn of the event loop goes to its store as one batch. (Over
    several stores one that does not answer holds up nobody who has to do with another.)"""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: list[tuple[Acking, ReadAcks]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        #: A batch is of several calls, and acts for none of them.
        self._context = contextvars.Context()

    def add(self, stream: Acking, acks: ReadAcks) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._begin, context=self._context)
        self._waiting.append((stream, acks))

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        batches: dict[str, list[tuple[Acking, ReadAcks]]] = {}
        home_of = self._broker.home_of
        for each in waiting:
            # Of a message about several stores that of its first lease: it waits for all of them.
            batches.setdefault(home_of(each[1].calls[0].ref.queue), []).append(each)
        loop = asyncio.get_running_loop()
        for batch in batches.values():
            task = loop.create_task(self._settle(batch), context=self._context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _settle(self, batch: Sequence[tuple[Acking, ReadAcks]]) -> None:
        calls = [call for _, acks in batch for call in acks.calls]
        try:
            outcomes = await self._broker.settling.ack(calls)
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreError):
                for each in batch:  # it may be the fault of one
                    await self._settle([each])
                return
            for stream, acks in batch:
                stream.ack_failed(acks, error)
            return
        start = 0
        for stream, acks in batch:
            end = start + len(acks.calls)
            stream.acked(acks, outcomes[start:end])
            start = end
