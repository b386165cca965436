"""The driver for ``file:`` URLs."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.jobs import Counts, JobPage, JobRecord, Leased, LeaseRecord, LeaseRef
from towline_broker.domain.time import Micros
from towline_broker.drivers.disk import free_bytes
from towline_broker.drivers.file import costs
from towline_broker.drivers.file.journal import Use
from towline_broker.drivers.file.live import LiveStore
from towline_broker.drivers.file.machine import THIS_MACHINE, Machine
from towline_broker.drivers.file.store import open_store
from towline_broker.drivers.file.url import FileUrl, parse
from towline_broker.drivers.interface import (
    AckBatch,
    CancelOutcome,
    CancelRequest,
    Capabilities,
    CopyPage,
    DeadQuery,
    DeadSelection,
    Durability,
    ExtendBatch,
    Extended,
    Handled,
    JobQuery,
    Listener,
    NackBatch,
    PurgeRequest,
    PushBatch,
    PushResult,
    QueueState,
    ReserveRequest,
    Settled,
    SoleOwner,
    Standing,
    Transfer,
)
from towline_broker.drivers.memory import figures
from towline_broker.drivers.memory.engine import Engine

T = TypeVar("T")


def open_file(url: str) -> "FileDriver":
    """The driver for a ``file:`` URL; raises StoreRefused if the URL is not of that form."""
    return FileDriver(parse(url))


class FileDriver(SoleOwner):
    """See :class:`towline_broker.drivers.interface.Driver`.

    A call takes place in memory at once; what it changed is appended to the journal, and the call
    returns when that is durable. Looking waits, too, until all that was seen is: no answer shows
    what a crash could undo.
    """

    def __init__(
        self,
        url: FileUrl,
        free_bytes: Callable[[Path], int] = free_bytes,
        machine: Machine = THIS_MACHINE,
    ) -> None:
        self._url = url
        self._directory = url.directory.resolve()
        self._free_bytes = free_bytes
        self._machine = machine
        self._opened: LiveStore | None = None
        # Made once: each call asks for them.
        self._capabilities = Capabilities(
            name="file",
            durability=Durability.DURABLE,
            durability_note="each change is synced to the journal before it is acknowledged",
            folder=self._directory,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def open(self, now: Micros, listener: Listener) -> Micros:
        store = await asyncio.to_thread(
            open_store, self._url, self._directory, now, self._free_bytes, self._machine
        )
        self._opened = LiveStore(
            store, self._url, self._directory, listener, self._free_bytes, self._machine
        )
        return store.clock

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    # --- jobs ---

    async def push(self, batch: PushBatch) -> list[PushResult]:
        return await self._change(
            lambda engine: engine.push(batch), batch.now, costs.of_push(batch), Use.NEW_JOBS
        )

    async def get(self, job_id: str) -> JobRecord | None:
        return await self._look(lambda engine: engine.get(job_id))

    async def list_jobs(self, query: JobQuery) -> JobPage:
        return await self._look(lambda engine: engine.list_jobs(query))

    async def cancel(self, request: CancelRequest) -> list[CancelOutcome]:
        size = costs.of_items(len(request.job_ids))
        return await self._change(lambda engine: engine.cancel(request), request.now, size)

    # --- leases ---

    async def reserve(self, request: ReserveRequest) -> list[Leased]:
        size = self._of_up_to(request.max_jobs)
        return await self._change(lambda engine: engine.reserve(request), request.now, size)

    async def leases(self, refs: Sequence[LeaseRef]) -> list[LeaseRecord | None]:
        return await self._look(lambda engine: engine.leases(refs))

    async def ack(self, batch: AckBatch) -> list[Settled]:
        return await self._change(lambda engine: engine.ack(batch), batch.now, costs.of_ack(batch))

    async def nack(self, batch: NackBatch) -> list[Settled]:
        size = costs.of_nack(batch)
        return await self._change(lambda engine: engine.nack(batch), batch.now, size)

    async def extend(self, batch: ExtendBatch) -> list[Extended]:
        size = costs.of_extend(batch)
        return await self._change(lambda engine: engine.extend(batch), batch.now, size)

    # --- upkeep ---

    async def promote(self, now: Micros, limit: int) -> int:
        size = self._of_up_to(limit)
        return await self._change(lambda engine: engine.promote(now, limit), now, size)

    async def expire(self, now: Micros, limit: int) -> int:
        size = self._of_up_to(limit)
        return await self._change(lambda engine: engine.expire(now, limit), now, size)

    async def expired_leases(self, now: Micros, limit: int) -> list[LeaseRecord]:
        return await self._look(lambda engine: engine.expired_leases(now, limit))

    async def forget(self, now: Micros, limit: int) -> int:
        size = self._of_up_to(limit)
        return await self._change(lambda engine: engine.forget(now, limit), now, size)

    async def next_due(self) -> Micros | None:
        return await self._look(Engine.next_due)

    # --- dead letters ---

    async def list_dead(self, query: DeadQuery) -> JobPage:
        return await self._look(lambda engine: engine.list_dead(query))

    async def count_dead(self, selection: DeadSelection) -> int:
        return await self._look(lambda engine: engine.count_dead(selection))

    async def requeue_dead(self, selection: DeadSelection) -> Handled:
        size = self._of_up_to(selection.limit)
        return await self._change(
            lambda engine: engine.requeue_dead(selection), selection.now, size
        )

    async def discard_dead(self, selection: DeadSelection, remember_until: Micros) -> Handled:
        size = self._of_up_to(selection.limit)
        return await self._change(
            lambda engine: engine.discard_dead(selection, remember_until), selection.now, size
        )

    # --- queues ---

    async def queues(self) -> list[QueueState]:
        return await self._open.look_in_pieces(figures.queues)

    async def set_paused(self, queue: str, paused: bool) -> bool:
        return await self._change(lambda engine: engine.set_paused(queue, paused))

    async def purge(self, request: PurgeRequest) -> Handled:
        size = self._of_up_to(request.limit)
        return await self._change(lambda engine: engine.purge(request), request.now, size)

    async def counts(self) -> list[Counts]:
        return await self._open.look_in_pieces(figures.counts)

    async def oldest_ready(self) -> dict[str, Micros]:
        return await self._open.look_in_pieces(figures.oldest_ready)

    async def reset_totals(self) -> None:
        await self._change(Engine.reset_totals)

    # --- moving a queue ---

    async def copies(self, limit: int, cursor: str | None = None) -> CopyPage:
        return await self._look(lambda engine: engine.copies(limit, cursor))

    async def seal(self, queue: str, to: str | None) -> None:
        await self._change(lambda engine: engine.seal(queue, to))

    async def outgoing(self, queue: str, limit: int) -> list[Transfer]:
        return await self._look(lambda engine: engine.outgoing(queue, limit))

    async def receive(self, transfers: Sequence[Transfer], now: Micros) -> int:
        return await self._change(
            lambda engine: engine.receive(transfers, now),
            now,
            costs.of_receive(transfers),
            Use.NEW_JOBS,
        )

    async def drop(self, queue: str, seen: Sequence[Standing]) -> list[str]:
        size = costs.of_items(len(seen))
        return await self._change(lambda engine: engine.drop(queue, seen), 0, size)

    async def forward(self, queue: str) -> bool:
        return await self._change(lambda engine: engine.forward(queue))

    # --- ---

    async def _change(
        self,
        call: Callable[[Engine], T],
        now: Micros = 0,
        size: int = costs.LEAST,
        use: Use = Use.SETTLING,
    ) -> T:
        return await self._open.change(call, now, size, use)

    async def _look(self, call: Callable[[Engine], T]) -> T:
        return await self._open.look(call)

    def _of_up_to(self, limit: int) -> int:
        """About how much is recorded of a change to so many jobs, or to all that there are."""
        return costs.of_items(min(limit, self._open.engine.state.count))

    @property
    def _open(self) -> LiveStore:
        if self._opened is None:
            raise StoreUnavailable("the store is not open")
        return self._opened
