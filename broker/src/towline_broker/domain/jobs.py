"""Jobs: as pushed, as stored, as leased."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import NamedTuple

from msgspec import Struct

from towline_broker.domain.retry import DEFAULT_POLICY, RetryPolicy
from towline_broker.domain.time import Micros


class JobState(IntEnum):
    """The numbers are stored: never reuse one. They equal those of ``towline.v1.JobState``."""

    SCHEDULED = 1
    READY = 2
    LEASED = 3
    SUCCEEDED = 4
    DEAD = 5
    CANCELLED = 6

    @property
    def ended(self) -> bool:
        return self >= JobState.SUCCEEDED


class DeadReason(IntEnum):
    """The numbers are stored: never reuse one. They equal those of ``towline.v1.DeadReason``."""

    ATTEMPTS_EXHAUSTED = 1
    REJECTED = 2
    EXPIRED = 3
    LEASE_EXPIRED = 4


class Settlement(IntEnum):
    """How a lease ended, as the settle memory (P4) keeps it. The numbers are stored."""

    ACKED = 1
    RETRIED = 2
    RELEASED = 3
    DEAD_LETTERED = 4
    #: The deadline passed and the job was taken back.
    LOST = 5
    #: The job was cancelled under its worker.
    CANCELLED = 6


class Failure(Struct, frozen=True, gc=False):
    type: str
    message: str = ""
    trace: str = ""
    at: Micros = 0


class Progress(Struct, frozen=True, gc=False):
    fraction: float = 0.0
    message: str = ""
    checkpoint: bytes = b""

    def merged_into(self, earlier: "Progress | None") -> "Progress":
        """This report after ``earlier``: a report without a checkpoint leaves the one before."""
        if self.checkpoint or earlier is None or not earlier.checkpoint:
            return self
        return Progress(self.fraction, self.message, earlier.checkpoint)


class NewJob(Struct, frozen=True, gc=False):
    """A job as a driver is asked to store it.

    Everything that the broker acts upon is a field; everything that it only carries (payload,
    content type, headers, time-out) is inside ``envelope``, whose form is the business of whoever
    pushes and reserves.
    """

    id: str
    queue: str
    type: str
    envelope: bytes = b""
    priority: int = 0
    #: None, or a time that is not after the ``now`` of the push: READY at once.
    due_at: Micros | None = None
    #: Dead, if never started by then.
    expires_at: Micros | None = None
    #: How long the whole job stays readable once it SUCCEEDED or was CANCELLED.
    retention: Micros = 0
    unique_key: str | None = None
    #: The key is held until then whatever becomes of the job; None: until the job has ended.
    unique_until: Micros | None = None
    retry: RetryPolicy = DEFAULT_POLICY


class LeaseRef(NamedTuple):
    """Names one grant of one job, with what is needed to find it in any store.

    ``grant`` is drawn anew by the core for each Reserve and is shared by the jobs of that call.
    """

    queue: str
    job_id: str
    grant: str


class Leased(Struct, frozen=True, gc=False):
    """A job that was just leased (or was before, by the same request)."""

    ref: LeaseRef
    type: str
    envelope: bytes
    attempt: int
    lease_until: Micros
    enqueued_at: Micros
    #: When the job became READY.
    ready_at: Micros
    failure: Failure | None = None
    progress: Progress | None = None


class LeaseRecord(Struct, frozen=True, gc=False):
    """What the core needs to know of a live lease to decide what becomes of its job."""

    ref: LeaseRef
    type: str
    attempt: int
    lease_until: Micros
    retry: RetryPolicy


class JobRecord(Struct, frozen=True, gc=False):
    """A job and what has become of it."""

    id: str
    queue: str
    type: str
    envelope: bytes
    priority: int
    state: JobState
    attempt: int
    enqueued_at: Micros
    #: When it became READY or will; None unless SCHEDULED or READY.
    available_at: Micros | None = None
    started_at: Micros | None = None
    finished_at: Micros | None = None
    lease_until: Micros | None = None
    worker_id: str = ""
    releases: int = 0
    failure: Failure | None = None
    progress: Progress | None = None
    dead_reason: DeadReason | None = None
    result: bytes = b""

    @classmethod
    def remembered(
        cls, id: str, queue: str, state: JobState, finished_at: Micros, result: bytes
    ) -> "JobRecord":
        """A job known only from the settle memory: all else of it means nothing."""
        return cls(
            *(id, queue, "", b"", 0, state, 0, 0),
            finished_at=finished_at,
            result=result,
        )


class JobPage(Struct, frozen=True, gc=False):
    records: Sequence[JobRecord]
    #: Opaque to all but the driver; None after the last page.
    next_cursor: str | None = None


@dataclass(slots=True)
class Depth:
    """Jobs by state, now."""

    scheduled: int = 0
    ready: int = 0
    leased: int = 0
    dead: int = 0

    @property
    def live(self) -> int:
        return self.scheduled + self.ready + self.leased


@dataclass(slots=True)
class Totals:
    """What has happened since the store was made or the totals were reset."""

    pushed: int = 0
    started: int = 0
    completed: int = 0
    failed: int = 0
    retried: int = 0
    released: int = 0
    dead_lettered: int = 0
    lease_expired: int = 0
    cancelled: int = 0
    requeued: int = 0


DEPTHS = tuple(each.name for each in fields(Depth))
TOTALS = tuple(each.name for each in fields(Totals))


@dataclass(slots=True)
class Counts:
    """Depth and totals of the jobs of one type in one queue; the type "" stands for all of its
    jobs, of a store that does not count them by type."""

    queue: str
    type: str
    depth: Depth = field(default_factory=Depth)
    totals: Totals = field(default_factory=Totals)
