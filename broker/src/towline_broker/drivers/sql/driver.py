"""What every driver of a SQL store does, by the two things that each does in its own way: playing a
change, and asking a query."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial

from towline_broker.domain.jobs import (
    Counts,
    JobPage,
    JobRecord,
    Leased,
    LeaseRecord,
    LeaseRef,
    NewJob,
)
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    AckBatch,
    CancelOutcome,
    CancelRequest,
    CopyPage,
    DeadQuery,
    DeadSelection,
    ExtendBatch,
    Extended,
    Handled,
    JobQuery,
    NackBatch,
    PurgeRequest,
    PushBatch,
    PushResult,
    QueueState,
    ReserveRequest,
    Settled,
    Standing,
    Transfer,
)
from towline_broker.drivers.sql import (
    acks,
    cancels,
    claims,
    dead_letters,
    listing,
    moving,
    pushes,
    queues,
    settles,
    upkeep,
)
from towline_broker.drivers.sql.transaction import Operation, Query, T


class SqlDriver(ABC):
    """See :class:`towline_broker.drivers.interface.Driver`."""

    @abstractmethod
    async def _change(
        self, operation: Operation[T], *, now: Micros = 0, items: int = 1, room: int = 0
    ) -> T:
        """Plays the operation in a transaction and returns once that is committed.

        ``items``: how many jobs it is about. ``room``: bytes that it takes on the disk, about; if
        not 0, it may be told that there are none (StoreFull).
        """

    @abstractmethod
    async def _read(self, query: Query[T], *, snapshot: bool = True) -> T:
        """Asks the query of the store as it is after all that was committed.

        ``snapshot``: all its statements are to see the same state.
        """

    # --- jobs ---

    async def push(self, batch: PushBatch) -> list[PushResult]:
        return await self._change(
            partial(pushes.push, batch=batch),
            now=batch.now,
            items=len(batch.jobs),
            room=room_of(batch.jobs),
        )

    async def get(self, job_id: str) -> JobRecord | None:
        return await self._read(partial(listing.get, job_id=job_id))

    async def list_jobs(self, query: JobQuery) -> JobPage:
        return await self._read(partial(listing.list_jobs, query=query))

    async def cancel(self, request: CancelRequest) -> list[CancelOutcome]:
        return await self._change(
            partial(cancels.cancel, request=request),
            now=request.now,
            items=len(request.job_ids),
        )

    # --- leases ---

    async def reserve(self, request: ReserveRequest) -> list[Leased]:
        return await self._change(
            partial(claims.reserve, request=request), now=request.now, items=request.max_jobs
        )

    async def leases(self, refs: Sequence[LeaseRef]) -> list[LeaseRecord | None]:
        return await self._read(partial(claims.leases, refs=refs), snapshot=False)

    async def ack(self, batch: AckBatch) -> list[Settled]:
        return await self._change(
            partial(acks.ack, batch=batch), now=batch.now, items=len(batch.acks)
        )

    async def nack(self, batch: NackBatch) -> list[Settled]:
        return await self._change(
            partial(settles.nack, batch=batch), now=batch.now, items=len(batch.nacks)
        )

    async def extend(self, batch: ExtendBatch) -> list[Extended]:
        return await self._change(
            partial(settles.extend, batch=batch), now=batch.now, items=len(batch.items)
        )

    # --- upkeep ---

    async def promote(self, now: Micros, limit: int) -> int:
        return await self._change(
            partial(upkeep.promote, now=now, limit=limit), now=now, items=limit
        )

    async def expire(self, now: Micros, limit: int) -> int:
        return await self._change(
            partial(upkeep.expire, now=now, limit=limit), now=now, items=limit
        )

    async def expired_leases(self, now: Micros, limit: int) -> list[LeaseRecord]:
        return await self._read(
            partial(claims.expired_leases, now=now, limit=limit), snapshot=False
        )

    async def forget(self, now: Micros, limit: int) -> int:
        return await self._change(
            partial(upkeep.forget, now=now, limit=limit), now=now, items=limit
        )

    async def next_due(self) -> Micros | None:
        return await self._read(upkeep.next_due, snapshot=False)

    # --- dead letters ---

    async def list_dead(self, query: DeadQuery) -> JobPage:
        return await self._read(partial(listing.list_dead, query=query))

    async def count_dead(self, selection: DeadSelection) -> int:
        return await self._read(partial(dead_letters.count_dead, selection=selection))

    async def requeue_dead(self, selection: DeadSelection) -> Handled:
        return await self._change(
            partial(dead_letters.requeue_dead, selection=selection),
            now=selection.now,
            items=selection.limit,
        )

    async def discard_dead(self, selection: DeadSelection, remember_until: Micros) -> Handled:
        return await self._change(
            partial(dead_letters.discard_dead, selection=selection, remember_until=remember_until),
            now=selection.now,
            items=selection.limit,
        )

    # --- queues ---

    async def queues(self) -> list[QueueState]:
        return await self._read(queues.queues)

    async def set_paused(self, queue: str, paused: bool) -> bool:
        return await self._change(partial(queues.set_paused, queue=queue, paused=paused))

    async def purge(self, request: PurgeRequest) -> Handled:
        return await self._change(
            partial(queues.purge, request=request), now=request.now, items=request.limit
        )

    async def counts(self) -> list[Counts]:
        return await queues.counted(await self._read(queues.counts))

    async def oldest_ready(self) -> dict[str, Micros]:
        return await self._read(queues.oldest_ready)

    async def reset_totals(self) -> None:
        await self._change(queues.reset_totals)

    # --- moving a queue ---

    async def copies(self, limit: int, cursor: str | None = None) -> CopyPage:
        return await self._read(partial(moving.copies, limit=limit, cursor=cursor))

    async def seal(self, queue: str, to: str | None) -> None:
        await self._change(partial(moving.seal, queue=queue, to=to))

    async def outgoing(self, queue: str, limit: int) -> list[Transfer]:
        return await self._read(partial(moving.outgoing, queue=queue, limit=limit))

    async def receive(self, transfers: Sequence[Transfer], now: Micros) -> int:
        return await self._change(
            partial(moving.receive, transfers=transfers, now=now),
            now=now,
            items=len(transfers),
            room=room_of([transfer.new for transfer in transfers]),
        )

    async def drop(self, queue: str, seen: Sequence[Standing]) -> list[str]:
        return await self._change(partial(moving.drop, queue=queue, seen=seen), items=len(seen))

    async def forward(self, queue: str) -> bool:
        return await self._change(partial(moving.forward, queue=queue))


def room_of(jobs: Sequence[NewJob]) -> int:
    """Bytes that new jobs take: in the log first and then in the table, with about half a page for
    each job's rows."""
    return 2 * sum(len(job.envelope) + 2_048 for job in jobs)
