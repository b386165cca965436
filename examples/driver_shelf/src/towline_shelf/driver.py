"""The driver: jobs in memory, and in the file every call that has changed them.

What a store owes (atomic, durable on return, the listener told afterwards) is written at the head
of :mod:`towline_broker.drivers.interface`. Where this driver does it is marked (1), (2), (3), (4).
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

from towline_broker.domain.errors import (
    NotSupported,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
)
from towline_broker.domain.jobs import Counts, JobPage, JobRecord, Leased, LeaseRecord, LeaseRef
from towline_broker.domain.time import Micros
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
    ExtendItem,
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
    tell,
)
from towline_broker.drivers.memory import Engine
from towline_broker.drivers.memory.events import Events
from towline_shelf.calls import from_text, to_text
from towline_shelf.file import CallFile

#: Each job is in memory, and in the file for good: larger ones belong elsewhere.
MAX_ENVELOPE = 256 * 1024
FAR_AHEAD: Micros = 2**62

P = ParamSpec("P")
T = TypeVar("T")
#: A method of the engine, not yet bound to one.
Verb: TypeAlias = Callable[Concatenate[Engine, P], T]


class ShelfDriver(SoleOwner):
    """Only one broker may use it, hence SoleOwner: there are no other brokers to hear of."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = Engine()
        self._file: CallFile | None = None
        self._failed = False
        self._listener: Listener | None = None
        #: (1) One call at a time: none sees what another has not yet written.
        self._turn = asyncio.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """Declared, never guessed: the broker refuses what a store cannot keep before it is asked,
        and tells operators what it promises."""
        return Capabilities(
            name="shelf",
            durability=Durability.DURABLE,
            durability_note=f"Every change is synced to {self._path.name} before it is answered.",
            max_envelope=MAX_ENVELOPE,
        )

    async def open(self, now: Micros, listener: Listener) -> Micros:
        self._file = await asyncio.to_thread(CallFile, self._path)
        try:
            latest = await asyncio.to_thread(self._replay, self._file)
        except BaseException:
            await self.close()
            raise
        await self._renew_leases(max(now, latest))
        for counts in self._engine.counts():
            if counts.depth.ready:
                listener.jobs_ready(counts.queue, counts.depth.ready)
        self._listener = listener
        return latest

    async def _renew_leases(self, now: Micros) -> None:
        """A lease may have run out only because no broker was there: each gets a fresh full term,
        unless a heartbeat has made it longer."""
        held = self._engine.expired_leases(FAR_AHEAD, limit=FAR_AHEAD)
        if not held:
            return
        fresh = await self._change(
            now, Engine.extend, ExtendBatch([ExtendItem(lease.ref) for lease in held], now)
        )
        cut = [
            ExtendItem(lease.ref, lease.lease_until - now)
            for lease, extended in zip(held, fresh, strict=True)
            if lease.lease_until > (extended.lease_until or 0)
        ]
        if cut:
            await self._change(now, Engine.extend, ExtendBatch(cut, now))

    def _replay(self, file: CallFile) -> Micros:
        """The same calls in the same order give the same state. Returns the latest time in them."""
        latest = 0
        for number, text in enumerate(file.calls(), start=1):
            try:
                now, method, arguments = from_text(text)
                getattr(self._engine, method)(*arguments)
            except (AttributeError, KeyError, TypeError, ValueError):
                raise StoreRefused(
                    f"{self._path}: call {number} is none that this version can read; open the "
                    "file with the version that wrote it"
                ) from None
            latest = max(latest, now)
        self._engine.take_events()  # nobody was there to hear them
        return latest

    async def close(self) -> None:
        async with self._turn:
            file, self._file = self._file, None
            if file is not None:
                await asyncio.to_thread(file.close)

    async def _change(
        self, now: Micros, verb: Verb[P, T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        async with self._turn:
            file = self._usable()
            result = verb(self._engine, *arguments, **named)  # (2) As a whole, or it raises.
            events = self._engine.take_events()
            # A call that comes to nothing has changed nothing; but drop names what it has left.
            changed = result not in (0, []) or verb is Engine.drop
            if changed or events.ready or events.ended:
                try:
                    # (3) Durable before it is answered, and the event loop is free meanwhile.
                    await asyncio.to_thread(file.append, to_text(now, verb.__name__, arguments))
                except StoreFailed:
                    self._failed = True  # memory is ahead of the file: nothing is answered now
                    raise
            self._tell(events)  # (4) Afterwards, never before.
            return result

    async def _look(self, verb: Verb[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        async with self._turn:
            self._usable()
            return verb(self._engine, *arguments, **named)

    def _usable(self) -> CallFile:
        if self._failed:
            raise StoreFailed("the shelf could not be written")
        if self._file is None:
            raise StoreUnavailable("the shelf is closed")
        return self._file

    def _tell(self, events: Events) -> None:
        if self._listener is not None:
            tell(self._listener, events.ready, events.ended)

    # --- jobs ---------------------------------------------------------------------------------

    async def push(self, batch: PushBatch) -> list[PushResult]:
        if any(len(job.envelope) > MAX_ENVELOPE for job in batch.jobs):
            raise NotSupported("shelf", f"jobs of more than {MAX_ENVELOPE} bytes")
        return await self._change(batch.now, Engine.push, batch)

    async def get(self, job_id: str) -> JobRecord | None:
        return await self._look(Engine.get, job_id)

    async def list_jobs(self, query: JobQuery) -> JobPage:
        return await self._look(Engine.list_jobs, query)

    async def cancel(self, request: CancelRequest) -> list[CancelOutcome]:
        return await self._change(request.now, Engine.cancel, request)

    # --- leases -------------------------------------------------------------------------------

    async def reserve(self, request: ReserveRequest) -> list[Leased]:
        return await self._change(request.now, Engine.reserve, request)

    async def leases(self, refs: Sequence[LeaseRef]) -> list[LeaseRecord | None]:
        return await self._look(Engine.leases, refs)

    async def ack(self, batch: AckBatch) -> list[Settled]:
        return await self._change(batch.now, Engine.ack, batch)

    async def nack(self, batch: NackBatch) -> list[Settled]:
        return await self._change(batch.now, Engine.nack, batch)

    async def extend(self, batch: ExtendBatch) -> list[Extended]:
        return await self._change(batch.now, Engine.extend, batch)

    # --- upkeep -------------------------------------------------------------------------------

    async def promote(self, now: Micros, limit: int) -> int:
        return await self._change(now, Engine.promote, now, limit)

    async def expire(self, now: Micros, limit: int) -> int:
        return await self._change(now, Engine.expire, now, limit)

    async def expired_leases(self, now: Micros, limit: int) -> list[LeaseRecord]:
        return await self._look(Engine.expired_leases, now, limit)

    async def forget(self, now: Micros, limit: int) -> int:
        return await self._change(now, Engine.forget, now, limit)

    async def next_due(self) -> Micros | None:
        return await self._look(Engine.next_due)

    # --- dead letters -------------------------------------------------------------------------

    async def list_dead(self, query: DeadQuery) -> JobPage:
        return await self._look(Engine.list_dead, query)

    async def count_dead(self, selection: DeadSelection) -> int:
        return await self._look(Engine.count_dead, selection)

    async def requeue_dead(self, selection: DeadSelection) -> Handled:
        return await self._change(selection.now, Engine.requeue_dead, selection)

    async def discard_dead(self, selection: DeadSelection, remember_until: Micros) -> Handled:
        return await self._change(selection.now, Engine.discard_dead, selection, remember_until)

    # --- queues -------------------------------------------------------------------------------

    async def queues(self) -> list[QueueState]:
        return await self._look(Engine.queues)

    async def set_paused(self, queue: str, paused: bool) -> bool:
        return await self._change(0, Engine.set_paused, queue, paused)

    async def purge(self, request: PurgeRequest) -> Handled:
        return await self._change(request.now, Engine.purge, request)

    async def counts(self) -> list[Counts]:
        return await self._look(Engine.counts)

    async def oldest_ready(self) -> dict[str, Micros]:
        return await self._look(Engine.oldest_ready)

    async def reset_totals(self) -> None:
        await self._change(0, Engine.reset_totals)

    # --- moving a queue to another store ------------------------------------------------------

    async def seal(self, queue: str, to: str | None) -> None:
        await self._change(0, Engine.seal, queue, to)

    async def copies(self, limit: int, cursor: str | None = None) -> CopyPage:
        return await self._look(Engine.copies, limit, cursor)

    async def outgoing(self, queue: str, limit: int) -> list[Transfer]:
        return await self._look(Engine.outgoing, queue, limit)

    async def receive(self, transfers: Sequence[Transfer], now: Micros) -> int:
        return await self._change(now, Engine.receive, transfers, now)

    async def drop(self, queue: str, seen: Sequence[Standing]) -> list[str]:
        return await self._change(0, Engine.drop, queue, seen)

    async def forward(self, queue: str) -> bool:
        return await self._change(0, Engine.forward, queue)
