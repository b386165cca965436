"""The memory driver: the engine behind the asynchronous interface."""

from collections.abc import Sequence

from towline_broker.domain.jobs import (
    Counts,
    JobPage,
    JobRecord,
    Leased,
    LeaseRecord,
    LeaseRef,
)
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
from towline_broker.drivers.memory import figures
from towline_broker.drivers.memory.engine import Engine


class MemoryDriver(SoleOwner):
    """Keeps jobs in the memory of this process. Implements the Driver interface."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._listener: Listener | None = None
        # Made once: each call asks for them.
        self._capabilities = Capabilities(
            name="memory",
            durability=Durability.NONE,
            durability_note="Jobs live in the memory of the broker and end with its process.",
            answers_at_once=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def open(self, now: Micros, listener: Listener) -> Micros:
        self._listener = listener
        return 0

    async def close(self) -> None:
        self._listener = None

    def _tell(self) -> None:
        events = self._engine.take_events()
        if self._listener is None:
            return
        tell(self._listener, events.ready, events.ended)

    # --- jobs ---------------------------------------------------------------------------------

    async def push(self, batch: PushBatch) -> list[PushResult]:
        results = self._engine.push(batch)
        self._tell()
        return results

    async def get(self, job_id: str) -> JobRecord | None:
        return self._engine.get(job_id)

    async def list_jobs(self, query: JobQuery) -> JobPage:
        return self._engine.list_jobs(query)

    async def cancel(self, request: CancelRequest) -> list[CancelOutcome]:
        outcomes = self._engine.cancel(request)
        self._tell()
        return outcomes

    # --- leases -------------------------------------------------------------------------------

    async def reserve(self, request: ReserveRequest) -> list[Leased]:
        leased = self._engine.reserve(request)
        self._tell()
        return leased

    async def leases(self, refs: Sequence[LeaseRef]) -> list[LeaseRecord | None]:
        return self._engine.leases(refs)

    async def ack(self, batch: AckBatch) -> list[Settled]:
        settled = self._engine.ack(batch)
        self._tell()
        return settled

    async def nack(self, batch: NackBatch) -> list[Settled]:
        settled = self._engine.nack(batch)
        self._tell()
        return settled

    async def extend(self, batch: ExtendBatch) -> list[Extended]:
        return self._engine.extend(batch)

    # --- upkeep -------------------------------------------------------------------------------

    async def promote(self, now: Micros, limit: int) -> int:
        promoted = self._engine.promote(now, limit)
        self._tell()
        return promoted

    async def expire(self, now: Micros, limit: int) -> int:
        expired = self._engine.expire(now, limit)
        self._tell()
        return expired

    async def expired_leases(self, now: Micros, limit: int) -> list[LeaseRecord]:
        return self._engine.expired_leases(now, limit)

    async def forget(self, now: Micros, limit: int) -> int:
        return self._engine.forget(now, limit)

    async def next_due(self) -> Micros | None:
        return self._engine.next_due()

    # --- dead letters -------------------------------------------------------------------------

    async def list_dead(self, query: DeadQuery) -> JobPage:
        return self._engine.list_dead(query)

    async def count_dead(self, selection: DeadSelection) -> int:
        return self._engine.count_dead(selection)

    async def requeue_dead(self, selection: DeadSelection) -> Handled:
        handled = self._engine.requeue_dead(selection)
        self._tell()
        return handled

    async def discard_dead(self, selection: DeadSelection, remember_until: Micros) -> Handled:
        return self._engine.discard_dead(selection, remember_until)

    # --- queues -------------------------------------------------------------------------------

    async def queues(self) -> list[QueueState]:
        return await figures.queues(self._engine)

    async def set_paused(self, queue: str, paused: bool) -> bool:
        changed = self._engine.set_paused(queue, paused)
        self._tell()
        return changed

    async def purge(self, request: PurgeRequest) -> Handled:
        handled = self._engine.purge(request)
        self._tell()
        return handled

    async def counts(self) -> list[Counts]:
        return await figures.counts(self._engine)

    async def oldest_ready(self) -> dict[str, Micros]:
        return await figures.oldest_ready(self._engine)

    async def reset_totals(self) -> None:
        self._engine.reset_totals()

    # --- moving a queue -----------------------------------------------------------------------

    async def copies(self, limit: int, cursor: str | None = None) -> CopyPage:
        return self._engine.copies(limit, cursor)

    async def seal(self, queue: str, to: str | None) -> None:
        self._engine.seal(queue, to)
        self._tell()

    async def outgoing(self, queue: str, limit: int) -> list[Transfer]:
        return self._engine.outgoing(queue, limit)

    async def receive(self, transfers: Sequence[Transfer], now: Micros) -> int:
        received = self._engine.receive(transfers, now)
        self._tell()
        return received

    async def drop(self, queue: str, seen: Sequence[Standing]) -> list[str]:
        return self._engine.drop(queue, seen)

    async def forward(self, queue: str) -> bool:
        return self._engine.forward(queue)
