"""Moving a queue to another store."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from towline_broker.domain.jobs import JobRecord, JobState, NewJob
from towline_broker.domain.time import Micros


class Transfer(Struct, frozen=True, gc=False):
    """A job on its way from one store to another, with all that a store knows of it.

    ``new`` is the job as it stands: its ``due_at`` is None (``record`` has the times),
    ``expires_at`` is None if it no longer counts, and ``unique_until`` is None unless the job holds
    its key.
    """

    new: NewJob
    #: Never LEASED.
    record: JobRecord
    #: The job holds its unique key.
    holds_key: bool = False
    #: SUCCEEDED and CANCELLED: the end of the retention.
    keep_until: Micros | None = None


class Standing(Struct, frozen=True, gc=False):
    """How a job stood when it was looked at. Whatever changes it leaves it standing otherwise."""

    job_id: str
    state: JobState
    attempt: int

    @classmethod
    def of(cls, record: JobRecord) -> "Standing":
        return cls(record.id, record.state, record.attempt)


class Copy(Struct, frozen=True, gc=False):
    """A stored job as it stands, to be kept elsewhere. Its record may be LEASED, other than that of
    a job that leaves."""

    transfer: Transfer
    #: Of the jobs of one queue, priority and state: the order of the line (READY), of those that
    #: are due at the same time (SCHEDULED), of those that died at the same time (DEAD).
    place: int


class CopyPage(Struct, frozen=True, gc=False):
    copies: Sequence[Copy]
    #: Opaque to all but the driver; None after the last page.
    next_cursor: str | None = None


class TransferStore(Protocol):
    """Copying all jobs; and moving a queue to another store, step by step, each of which may be
    repeated.

    The queue is sealed in its old store. Batch by batch its jobs are received by the new one and
    then dropped by the old one; nobody reserves them meanwhile. Once nothing is left, the old store
    forwards.
    """

    async def copies(self, limit: int, cursor: str | None = None) -> CopyPage:
        """Stored jobs of every queue and state, about ``limit`` at a time, in any order. Changes
        nothing. A page may hold fewer, or none, together with a cursor.

        A job that is stored from before the first page until after the last one is on one page
        exactly, however often its state changes meanwhile.
        """

    async def seal(self, queue: str, to: str | None) -> None:
        """From here on Reserve gets nothing from the queue, as if it were paused (a pause of its
        own stays as it is); all else goes on. A queue that has moved stays so, to that store. None:
        it is at home here again, whatever was said, and the listener hears of its READY jobs.

        Raises QueueNotFound (but not for None: then there is nothing to undo).
        """

    async def outgoing(self, queue: str, limit: int) -> list[Transfer]:
        """Up to ``limit`` jobs of the queue that are not LEASED: READY ones in the order of the
        line, then SCHEDULED ones in that of their times, DEAD ones in that of their deaths, and
        those kept after their end. Changes nothing. Raises QueueNotFound."""

    async def receive(self, transfers: Sequence[Transfer], now: Micros) -> int:
        """Stores jobs as they are, in their order, READY ones behind those that are there; returns
        how many were stored.

        One whose id is stored or in the settle memory is passed over. A key is taken by its job
        unless it is held by another. Depths count, totals do not: the job was pushed elsewhere. The
        listener hears of READY jobs. Raises StoreFull.
        """

    async def drop(self, queue: str, seen: Sequence[Standing]) -> list[str]:
        """Removes jobs of the queue that still stand as they were seen and are not LEASED, and what
        hangs on them, without a trace in settle memory or totals, so that they may come back. The
        listener hears nothing.

        Returns the ids of the others, in their order: those that were requeued, cancelled, promoted
        or otherwise changed since they were seen, and those that are gone, leased, or in another
        queue. ``seen`` names no job twice.
        """

    async def forward(self, queue: str) -> bool:
        """If the sealed queue holds no job at all, its move is complete: from here on ``push``
        raises QueueMoved for it. Returns whether it is sealed and holds none. (A push that was
        under way may still leave a job behind, to be moved as the others were.) Raises
        QueueNotFound."""
