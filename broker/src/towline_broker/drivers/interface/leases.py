"""Granting leases, extending and ending them."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from towline_broker.domain.jobs import (
    DeadReason,
    Failure,
    Leased,
    LeaseRecord,
    LeaseRef,
    Progress,
    Settlement,
)
from towline_broker.domain.time import Micros


class ReserveRequest(Struct, frozen=True, gc=False):
    #: Served in this order.
    queues: Sequence[str]
    #: 0: only what was granted before under ``request_id``.
    max_jobs: int
    lease: Micros
    grant: str
    now: Micros
    worker_id: str = ""
    #: Empty: never repeated.
    request_id: str = ""
    #: No further job once the envelopes of those leased come to so many bytes; None: no bound.
    max_bytes: int | None = None


class AckItem(Struct, frozen=True, gc=False):
    ref: LeaseRef
    result: bytes = b""


class AckBatch(Struct, frozen=True, gc=False):
    acks: Sequence[AckItem]
    now: Micros
    #: The settle memory keeps what this call settles until then.
    remember_until: Micros


class NackItem(Struct, frozen=True, gc=False):
    """Ends a lease without success. The core has decided what becomes of the job.

    ``dead_reason`` set: DEAD. Otherwise SCHEDULED if ``due_at`` lies after ``now``, else READY, in
    both cases with a new place behind the jobs of the same priority.
    """

    ref: LeaseRef
    #: RETRIED, RELEASED (the attempt is given back, ``releases`` grows), DEAD_LETTERED, or LOST
    #: (applies only if the lease is past its deadline at ``now``).
    settlement: Settlement
    due_at: Micros | None = None
    dead_reason: DeadReason | None = None
    #: Recorded as the job's failure; None leaves the one before.
    failure: Failure | None = None


class NackBatch(Struct, frozen=True, gc=False):
    nacks: Sequence[NackItem]
    now: Micros
    remember_until: Micros


class Settled(Struct, frozen=True, gc=False):
    """What one Ack or Nack came to.

    ``applied``: the lease was live and this call ended it; ``type`` and ``elapsed`` (since the
    lease was granted) are set. Otherwise ``before`` tells how it had ended, None if that is not
    known.
    """

    applied: bool
    before: Settlement | None = None
    type: str = ""
    elapsed: Micros = 0


class ExtendItem(Struct, frozen=True, gc=False):
    ref: LeaseRef
    #: New length from ``now``; None: the length that was granted.
    lease: Micros | None = None
    #: Merged by :meth:`Progress.merged_into`; None leaves what was recorded.
    progress: Progress | None = None


class ExtendBatch(Struct, frozen=True, gc=False):
    items: Sequence[ExtendItem]
    now: Micros


class Extended(Struct, frozen=True, gc=False):
    """``lease_until`` set: the lease lives. Otherwise ``before`` as in :class:`Settled`."""

    lease_until: Micros | None
    before: Settlement | None = None


class LeaseStore(Protocol):
    """Granting and ending leases. Every change compares the grant with the one that is stored."""

    async def reserve(self, request: ReserveRequest) -> list[Leased]:
        """Leases up to ``max_jobs`` READY jobs, within ``max_bytes``, until ``now + lease``.

        Queue by queue in the given order, skipping paused ones; within a queue by priority (higher
        first), then by the order of becoming READY. The attempt grows by one.

        A job that was never started (attempt 0) and whose ``expires_at`` is not after ``now`` is
        not leased but becomes DEAD (EXPIRED), and the next one is looked at.

        With a ``request_id`` under which leases are live: returns exactly those, with their own
        grant and deadline, and changes nothing.
        """

    async def leases(self, refs: Sequence[LeaseRef]) -> list[LeaseRecord | None]:
        """The live leases among ``refs``, None for each other one."""

    async def ack(self, batch: AckBatch) -> list[Settled]:
        """Ends live leases with success, deadline passed or not; one answer for each item.

        The job becomes SUCCEEDED with its result. With retention 0 it is removed. In any case the
        settle memory keeps its id, lease, state and result until ``remember_until``. Its unique
        key is freed unless held for a time of its own.
        """

    async def nack(self, batch: NackBatch) -> list[Settled]:
        """Ends live leases without success, as each item says; one answer for each item.

        The settle memory keeps the lease and its settlement. A job that becomes DEAD frees its
        unique key unless that is held for a time of its own.
        """

    async def extend(self, batch: ExtendBatch) -> list[Extended]:
        """Moves the deadlines of live leases, deadline passed or not, and records progress."""
