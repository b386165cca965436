"""What a driver owes the core.

A driver keeps jobs in one kind of store. It does what it is told, atomically, and decides nothing:
delays, retry decisions, limits on waiting and the meaning of an answer are the core's. It reads no
clock: ``now`` comes in, and never runs backwards from one call to the next. (Brokers that share a
store go by that store's clock, :meth:`PeerStore.time`, as well as it can be read from afar: ``now``
of one may lie some milliseconds behind that of another.) Its methods are called from one event
loop, many at a time, and must not block that loop.

What holds for every method that changes something:

* It is atomic: all of the described change takes place, or (when it raises) none. The counts of
  :meth:`QueueStore.counts` are part of the same change.
* When it returns, the change is as durable as ``capabilities.durability`` says.
* It may be cancelled by nobody: callers shield it.
* After the change, and never before, the driver tells its :class:`Listener` what came of it; of
  changes made through itself, before the method returns. Of those that another broker makes in the
  same store it tells within milliseconds, unless ``capabilities.poll_interval`` says otherwise.

A :class:`LeaseRef` is compared as a whole: one that names another queue than the job's names no
lease. A time is past when it is not after ``now``.

What any method may raise: :class:`~towline_broker.domain.errors.StoreUnavailable` (effect
unknown), :class:`~towline_broker.domain.errors.StoreFailed` (the broker must end), and
:class:`~towline_broker.domain.errors.NotSupported` for what ``capabilities.missing`` names. Only
``push`` and ``receive`` may raise :class:`~towline_broker.domain.errors.StoreFull`: settling must
work on a full disk.
A cursor that the driver never gave raises InvalidField("page_token", …).

The shape follows the storage seams of OpenFGA (small composed interfaces, obligations in comments)
and River (parameter objects, declared capabilities).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
from typing import Protocol

from towline_broker.domain.jobs import (
    Counts,
    DeadReason,
    Failure,
    JobPage,
    JobRecord,
    JobState,
    Leased,
    LeaseRecord,
    LeaseRef,
    NewJob,
    Progress,
    Settlement,
)
from towline_broker.domain.time import Micros


class Durability(IntEnum):
    """The numbers equal those of ``towline.v1.Durability``."""

    NONE = 1
    WINDOW = 2
    DURABLE = 3


class Feature(StrEnum):
    """What a store may be unable to do. What has no name here every store does."""

    PRIORITY = "priorities"
    UNIQUE_KEYS = "unique keys"
    EXPIRY = "jobs that expire"
    RETENTION = "keeping jobs that have ended"
    LOOKUP = "looking up a job by its id"
    CANCEL = "cancelling jobs"
    LISTING = "listing jobs"
    DEAD_LETTERS = "looking at dead jobs"
    PURGE = "counted or partial purging"
    TRANSFER = "moving a queue to another store"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the opened store can promise. Declared, never guessed; final once ``open`` has
    returned."""

    name: str
    durability: Durability
    #: The durability in a sentence, for operators.
    durability_note: str
    #: Several brokers may use the store at the same time.
    shared: bool = False
    missing: frozenset[Feature] = frozenset()
    #: The longest delay of a job that the store can keep; None: any.
    max_delay: Micros | None = None
    #: The largest envelope that the store can keep, in bytes; None: any.
    max_envelope: int | None = None
    #: Not every job that becomes READY is told of: who waits for one has to look this often. None:
    #: the listener hears of every one.
    poll_interval: Micros | None = None


class Listener(Protocol):
    """Hears, on the event loop, what has become of jobs."""

    def jobs_ready(self, queue: str, count: int) -> None:
        """So many jobs of the queue became READY (or leasable again, as after a resume).

        While the queue is paused a driver may tell this or not."""

    def jobs_ended(self, job_ids: Sequence[str]) -> None:
        """These jobs became SUCCEEDED, DEAD or CANCELLED (purged ones among them). May also name
        jobs that had ended before and are now removed."""


# --- parameters and results -------------------------------------------------------------------


class PushOutcome(Enum):
    CREATED = "created"
    EXISTING = "existing"
    QUEUE_FULL = "queue full"


@dataclass(frozen=True, slots=True)
class PushBatch:
    jobs: Sequence[NewJob]
    now: Micros
    #: True: raise QueueFull and store nothing if any job meets a full queue.
    all_or_nothing: bool = True
    #: Most live jobs (SCHEDULED + READY + LEASED) per queue; no entry: no limit.
    max_depth: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PushResult:
    #: The id that was pushed; for EXISTING by unique key, that of the job which holds the key.
    job_id: str
    outcome: PushOutcome


@dataclass(frozen=True, slots=True)
class ReserveRequest:
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


@dataclass(frozen=True, slots=True)
class AckItem:
    ref: LeaseRef
    result: bytes = b""


@dataclass(frozen=True, slots=True)
class AckBatch:
    acks: Sequence[AckItem]
    now: Micros
    #: The settle memory keeps what this call settles until then.
    remember_until: Micros


@dataclass(frozen=True, slots=True)
class NackItem:
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


@dataclass(frozen=True, slots=True)
class NackBatch:
    nacks: Sequence[NackItem]
    now: Micros
    remember_until: Micros


@dataclass(frozen=True, slots=True)
class Settled:
    """What one Ack or Nack came to.

    ``applied``: the lease was live and this call ended it; ``type`` and ``elapsed`` (since the
    lease was granted) are set. Otherwise ``before`` tells how it had ended, None if that is not
    known.
    """

    applied: bool
    before: Settlement | None = None
    type: str = ""
    elapsed: Micros = 0


@dataclass(frozen=True, slots=True)
class ExtendItem:
    ref: LeaseRef
    #: New length from ``now``; None: the length that was granted.
    lease: Micros | None = None
    #: Merged by :meth:`Progress.merged_into`; None leaves what was recorded.
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class ExtendBatch:
    items: Sequence[ExtendItem]
    now: Micros


@dataclass(frozen=True, slots=True)
class Extended:
    """``lease_until`` set: the lease lives. Otherwise ``before`` as in :class:`Settled`."""

    lease_until: Micros | None
    before: Settlement | None = None


@dataclass(frozen=True, slots=True)
class JobQuery:
    limit: int
    queue: str | None = None
    type: str | None = None
    #: Empty: every state.
    states: frozenset[JobState] = frozenset()
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Every field that is not None must match."""

    queue: str | None = None
    type: str | None = None
    reason: DeadReason | None = None
    #: Died at or after.
    dead_after: Micros | None = None
    #: Died before.
    dead_before: Micros | None = None


@dataclass(frozen=True, slots=True)
class DeadQuery:
    limit: int
    filter: DeadFilter = DeadFilter()
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class DeadSelection:
    """By ids when ``ids`` is not None, else by filter; oldest death first, at most ``limit``."""

    limit: int
    now: Micros
    ids: Sequence[str] | None = None
    filter: DeadFilter = DeadFilter()


@dataclass(frozen=True, slots=True)
class Handled:
    """``matched``: all that the selection met before the call; ``handled``: those of them
    changed."""

    matched: int
    handled: int


@dataclass(frozen=True, slots=True)
class PurgeRequest:
    queue: str
    limit: int
    now: Micros
    remember_until: Micros


class CancelOutcome(IntEnum):
    """The numbers equal those of ``towline.v1.CancelOutcome``."""

    CANCELLED = 1
    ALREADY_ENDED = 2
    NOT_FOUND = 3


@dataclass(frozen=True, slots=True)
class CancelRequest:
    job_ids: Sequence[str]
    now: Micros
    remember_until: Micros


@dataclass(frozen=True, slots=True)
class QueueState:
    name: str
    paused: bool
    #: On its way to the store of this name, or already there; empty: at home here.
    moving_to: str = ""
    #: The move is complete: see :meth:`TransferStore.forward`.
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Transfer:
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


# --- the interface ----------------------------------------------------------------------------


class JobStore(Protocol):
    """Storing and looking at jobs."""

    async def push(self, batch: PushBatch) -> list[PushResult]:
        """Stores the jobs, in their order; one result for each.

        EXISTING, and nothing stored, when a job of this id is stored, or is in the settle memory,
        or came earlier in this batch; or when its unique key is held in its queue at ``now``.

        Raises QueueFull (``all_or_nothing`` and a queue is full), StoreFull, QueueMoved (nothing
        of the batch is stored).
        """

    async def get(self, job_id: str) -> JobRecord | None:
        """One job; from the settle memory if it is gone from the store. None: not known."""

    async def list_jobs(self, query: JobQuery) -> JobPage:
        """Stored jobs in the order of their push. May look at a bounded number of jobs a call and
        return fewer than ``limit`` together with a cursor."""

    async def cancel(self, request: CancelRequest) -> list[CancelOutcome]:
        """Makes SCHEDULED, READY and LEASED jobs CANCELLED; one outcome for each id.

        The lease of a LEASED job is remembered as CANCELLED. A job whose retention is 0 is
        removed. In any case the settle memory keeps its id and state until ``remember_until``. Its
        unique key is freed, even if held for a time of its own.
        """


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


class UpkeepStore(Protocol):
    """What has to happen because time passes. The core calls these when their time has come."""

    async def promote(self, now: Micros, limit: int) -> int:
        """Makes up to ``limit`` SCHEDULED jobs whose time has come READY, in the order of their
        due times, and for equal ones of the order in which they became SCHEDULED; returns how
        many. They are READY since ``now``."""

    async def expire(self, now: Micros, limit: int) -> int:
        """Makes up to ``limit`` SCHEDULED or READY jobs that were never started (attempt 0), and
        whose ``expires_at`` is not after ``now``, DEAD with reason EXPIRED, earliest first; returns
        how many."""

    async def expired_leases(self, now: Micros, limit: int) -> list[LeaseRecord]:
        """Up to ``limit`` live leases whose deadline is not after ``now``, earliest first. Changes
        nothing: the core settles them by :meth:`LeaseStore.nack`."""

    async def forget(self, now: Micros, limit: int) -> int:
        """Removes up to ``limit`` SUCCEEDED or CANCELLED jobs past their retention, settle
        memories past their time, and unique keys past theirs; returns how many records went."""

    async def next_due(self) -> Micros | None:
        """The earliest time at which promote, expire or expired_leases has something to do."""


class DeadLetterStore(Protocol):
    """Dead jobs. They are out of the way of every other operation."""

    async def list_dead(self, query: DeadQuery) -> JobPage:
        """Dead jobs in the order of the times at which they died (of equal times: any order, but
        always the same); paging as in :meth:`JobStore.list_jobs`."""

    async def count_dead(self, selection: DeadSelection) -> int:
        """How many dead jobs the selection meets, whatever its limit."""

    async def requeue_dead(self, selection: DeadSelection) -> Handled:
        """Makes them READY with attempt 0, behind the others of their priority. The failure stays,
        ``expires_at`` no longer counts, and no unique key is taken."""

    async def discard_dead(self, selection: DeadSelection, remember_until: Micros) -> Handled:
        """Removes them. The settle memory keeps their ids (state DEAD), and unique keys are
        freed."""


class QueueStore(Protocol):
    """Queues as a whole. A queue exists from its first job on."""

    async def queues(self) -> list[QueueState]:
        """Every queue, by name."""

    async def set_paused(self, queue: str, paused: bool) -> bool:
        """Returns whether that changed anything. Raises QueueNotFound."""

    async def purge(self, request: PurgeRequest) -> Handled:
        """Removes up to ``limit`` READY and SCHEDULED jobs; the settle memory keeps their ids
        (state CANCELLED), and unique keys are freed. Counted as cancelled. Retention does not
        count. Raises QueueNotFound."""

    async def counts(self) -> list[Counts]:
        """Depth and totals for each queue and type that ever had a job. Costs nothing per job."""

    async def oldest_ready(self) -> dict[str, Micros]:
        """For each queue with a READY job: when the one READY for longest became so. (One that
        another store has sent may be passed over while it stands behind younger ones.)"""

    async def reset_totals(self) -> None:
        """Sets all totals to zero; depths stay."""


class TransferStore(Protocol):
    """Moving a queue to another store, step by step; each step may be repeated.

    The queue is sealed in its old store. Batch by batch its jobs are received by the new one and
    then dropped by the old one; nobody reserves them meanwhile. Once nothing is left, the old store
    forwards.
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

    async def drop(self, queue: str, job_ids: Sequence[str]) -> int:
        """Removes jobs of the queue that are not LEASED, and what hangs on them, without a trace in
        settle memory or totals, so that they may come back; returns how many. The listener hears
        nothing."""

    async def forward(self, queue: str) -> bool:
        """If the sealed queue holds no job at all, its move is complete: from here on ``push``
        raises QueueMoved for it. Returns whether it is sealed and holds none. (A push that was
        under way may still leave a job behind, to be moved as the others were.) Raises
        QueueNotFound."""


class PeerStore(Protocol):
    """What brokers that share a store know of each other by it."""

    async def time(self, now: Micros) -> Micros:
        """The time by the store's own clock; ``now`` if only one broker may use the store."""

    async def post(self, broker_id: str, notice: bytes, until: Micros) -> None:
        """Puts up a notice of this broker, in place of the one before, for the others to read until
        then. Need not be durable. Empty: takes it down."""

    async def notices(self, now: Micros) -> dict[str, bytes]:
        """What every broker has put up, by broker."""


class SoleOwner:
    """The :class:`PeerStore` of a store that only one broker may use."""

    async def time(self, now: Micros) -> Micros:
        return now

    async def post(self, broker_id: str, notice: bytes, until: Micros) -> None:
        """There is nobody to read it."""

    async def notices(self, now: Micros) -> dict[str, bytes]:
        return {}


class Driver(
    JobStore,
    LeaseStore,
    UpkeepStore,
    DeadLetterStore,
    QueueStore,
    TransferStore,
    PeerStore,
    Protocol,
):
    """A store, opened and closed once."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def open(self, now: Micros, listener: Listener) -> Micros:
        """Opens the store, making it if there is none, and returns the latest time it has seen (0
        if new): the core's clock goes on from there if the machine's has fallen behind.

        A store that only one broker may use is locked, and each live lease in it gets a fresh term
        of its granted length from the later of ``now`` and the returned time. In a store that
        brokers share, other brokers may be at work: leases stay as they are, and the time returned
        is that of the store's own clock. Calls the listener for jobs that are READY.

        Raises StoreRefused (not ours, newer schema, owned by another broker) having changed
        nothing.
        """

    async def close(self) -> None:
        """Finishes what is under way, then releases the store. Safe to call twice."""
