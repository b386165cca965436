"""A job as the memory engine holds it, and its forms for the outside."""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec

from towline_broker.domain.jobs import (
    TOTALS,
    Counts,
    DeadReason,
    Depth,
    Failure,
    JobRecord,
    JobState,
    Leased,
    LeaseRecord,
    LeaseRef,
    NewJob,
    Progress,
    Totals,
)
from towline_broker.domain.retry import DEFAULT_POLICY, RetryPolicy
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Transfer

#: What a stored job costs beside its bytes: the object, its id, and its entries in the indexes.
JOB_OVERHEAD = 700


#: What ``Tally.depth`` is indexed with where many jobs are counted: plain numbers, for to look up a
#: member of an enumeration and to count with it takes five times as long.
READY = int(JobState.READY)
LEASED = int(JobState.LEASED)


class Lease(NamedTuple):
    grant: str
    granted_at: Micros
    until: Micros
    #: As granted; an extension of another length leaves it.
    length: Micros
    worker_id: str
    request_id: str


_new_tuple = tuple.__new__
_TOTALS = attrgetter(*TOTALS)


class Tally:
    """Depth and totals of one type in one queue."""

    __slots__ = ("depth", "dirty", "queue", "totals", "type")

    def __init__(self, queue: str, type_: str) -> None:
        self.queue = queue
        self.type = type_
        #: Indexed by JobState.
        self.depth = [0] * (len(JobState) + 1)
        self.totals = Totals()
        #: Changed in this call, for whoever records the changes.
        self.dirty = False

    def reset(self) -> None:
        self.totals = Totals()

    def counts(self) -> Counts:
        depth = self.depth
        return Counts(
            self.queue,
            self.type,
            Depth(
                scheduled=depth[JobState.SCHEDULED],
                ready=depth[JobState.READY],
                leased=depth[JobState.LEASED],
                dead=depth[JobState.DEAD],
            ),
            Totals(*_TOTALS(self.totals)),
        )


class Job(msgspec.Struct, gc=False, eq=False):
    """A stored job. Changed by the state module only, which keeps the indexes in step.

    There may be millions, and a full run of the garbage collector over them would hold the broker
    for most of a second: hence one object a job, which the collector does not track. Nothing that a
    job holds may lead back to it.
    """

    id: str
    queue: str
    tally: Tally
    envelope: bytes
    priority: int
    #: Grows with every job stored: the order of their push.
    number: int
    #: Grows with every job that begins to wait or dies: the order within READY, SCHEDULED or DEAD.
    place: int
    enqueued_at: Micros
    #: When it became READY (kept while LEASED) or, SCHEDULED, when it will.
    available_at: Micros
    expires_at: Micros | None = None
    retention: Micros = 0
    unique_key: str | None = None
    unique_until: Micros | None = None
    retry: RetryPolicy = DEFAULT_POLICY
    #: About how many bytes it takes; 0 until it is stored.
    size: int = 0
    state: JobState = JobState.READY
    attempt: int = 0
    releases: int = 0
    started_at: Micros | None = None
    finished_at: Micros | None = None
    #: Kept until then, once it has ended and if it has a retention.
    keep_until: Micros | None = None
    lease: Lease | None = None
    failure: Failure | None = None
    progress: Progress | None = None
    dead_reason: DeadReason | None = None
    result: bytes = b""
    #: What of it has changed in this call, for whoever records the changes.
    dirty: int = 0

    @property
    def type(self) -> str:
        return self.tally.type

    @property
    def new(self) -> NewJob:
        """The job as it would be pushed now; its times count from the record."""
        return NewJob(
            id=self.id,
            queue=self.queue,
            type=self.type,
            envelope=self.envelope,
            priority=self.priority,
            expires_at=self.expires_at,
            retention=self.retention,
            unique_key=self.unique_key,
            unique_until=self.unique_until,
            retry=self.retry,
        )

    def restore(self, record: JobRecord) -> None:
        """Takes over what has become of the job in another store, but for its state and place."""
        self.attempt = record.attempt
        self.releases = record.releases
        self.available_at = record.available_at or record.enqueued_at
        self.started_at = record.started_at
        self.finished_at = record.finished_at
        self.failure = record.failure
        self.progress = record.progress
        self.dead_reason = record.dead_reason
        self.result = record.result

    def record(self) -> JobRecord:
        lease = self.lease
        waiting = self.state in (JobState.SCHEDULED, JobState.READY)
        return JobRecord(
            id=self.id,
            queue=self.queue,
            type=self.type,
            envelope=self.envelope,
            priority=self.priority,
            state=self.state,
            attempt=self.attempt,
            enqueued_at=self.enqueued_at,
            available_at=self.available_at if waiting else None,
            started_at=self.started_at,
            finished_at=self.finished_at,
            lease_until=lease.until if lease else None,
            worker_id=lease.worker_id if lease else "",
            releases=self.releases,
            failure=self.failure,
            progress=self.progress,
            dead_reason=self.dead_reason,
            result=self.result,
        )

    def lease_record(self, lease: Lease) -> LeaseRecord:
        return LeaseRecord(
            ref=LeaseRef(self.queue, self.id, lease.grant),
            type=self.type,
            attempt=self.attempt,
            lease_until=lease.until,
            retry=self.retry,
        )


def all_leased(jobs: Sequence[Job], lease: Lease) -> list[Leased]:
    """Those of this lease, as they are handed out."""
    grant, until = lease.grant, lease.until
    # By name, or by LeaseRef itself, each of the two objects would take twice as long to make.
    return [
        Leased(
            _new_tuple(LeaseRef, (job.queue, job.id, grant)),
            job.tally.type,
            job.envelope,
            job.attempt,
            until,
            job.enqueued_at,
            job.available_at,
            job.failure,
            job.progress,
        )
        for job in jobs
    ]


def by_tally(jobs: Iterable[Job]) -> dict[Tally, int]:
    """How many of them each tally counts, in the order of their coming. (To make a Counter takes as
    long as to count twenty jobs.)"""
    tallies = [job.tally for job in jobs]
    counts: dict[Tally, int] = dict.fromkeys(tallies, len(tallies))
    if len(counts) > 1:
        counts = dict.fromkeys(tallies, 0)
        for tally in tallies:
            counts[tally] += 1
    return counts


def cost_of(new: NewJob) -> int:
    """About how many bytes of memory a job takes as it is pushed."""
    return JOB_OVERHEAD + len(new.envelope) + 2 * len(new.unique_key or "")


def cost_received(transfer: Transfer) -> int:
    """About how many bytes of memory a job takes that comes from another store."""
    return cost_of(transfer.new) + _cost_of_told(transfer.record)


def current_cost(job: Job) -> int:
    """About how many bytes a job takes now, with what its workers have told."""
    pushed = JOB_OVERHEAD + len(job.envelope) + 2 * len(job.unique_key or "")
    return pushed + _cost_of_told(job)


def _cost_of_told(told: Job | JobRecord) -> int:
    size = len(told.result)
    if (failure := told.failure) is not None:
        size += len(failure.type) + len(failure.message) + len(failure.trace)
    if (progress := told.progress) is not None:
        size += len(progress.message) + len(progress.checkpoint)
    return size
