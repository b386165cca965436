"""A job as the memory engine holds it, and its forms for the outside."""

from dataclasses import replace
from typing import NamedTuple

from towline_broker.domain.jobs import (
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
from towline_broker.domain.time import Micros

#: What a stored job costs beside its bytes: the object, its id, and its entries in the indexes.
JOB_OVERHEAD = 700


class Lease(NamedTuple):
    grant: str
    granted_at: Micros
    until: Micros
    #: As granted; an extension of another length leaves it.
    length: Micros
    worker_id: str
    request_id: str


class Tally:
    """Depth and totals of one type in one queue."""

    __slots__ = ("depth", "queue", "totals", "type")

    def __init__(self, queue: str, type_: str) -> None:
        self.queue = queue
        self.type = type_
        #: Indexed by JobState.
        self.depth = [0] * (len(JobState) + 1)
        self.totals = Totals()

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
            replace(self.totals),
        )


class Job:
    """A stored job. Changed by the state module only, which keeps the indexes in step."""

    __slots__ = (
        "attempt",
        "available_at",
        "dead_reason",
        "enqueued_at",
        "expires_at",
        "failure",
        "finished_at",
        "lease",
        "new",
        "number",
        "progress",
        "releases",
        "result",
        "size",
        "started_at",
        "state",
        "tally",
    )

    def __init__(self, new: NewJob, number: int, now: Micros, tally: Tally) -> None:
        self.new = new
        #: Grows with every job stored: the order of their push.
        self.number = number
        self.tally = tally
        self.state = JobState.READY
        self.attempt = 0
        self.releases = 0
        self.enqueued_at = now
        #: When it became READY (kept while LEASED) or, SCHEDULED, when it will.
        self.available_at = now
        self.expires_at = new.expires_at
        self.started_at: Micros | None = None
        self.finished_at: Micros | None = None
        self.lease: Lease | None = None
        self.failure: Failure | None = None
        self.progress: Progress | None = None
        self.dead_reason: DeadReason | None = None
        self.result = b""
        self.size = cost_of(new)

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
        new, lease = self.new, self.lease
        waiting = self.state in (JobState.SCHEDULED, JobState.READY)
        return JobRecord(
            id=new.id,
            queue=new.queue,
            type=new.type,
            envelope=new.envelope,
            priority=new.priority,
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

    def leased(self, lease: Lease) -> Leased:
        new = self.new
        return Leased(
            ref=LeaseRef(new.queue, new.id, lease.grant),
            type=new.type,
            envelope=new.envelope,
            attempt=self.attempt,
            lease_until=lease.until,
            enqueued_at=self.enqueued_at,
            ready_at=self.available_at,
            failure=self.failure,
            progress=self.progress,
        )

    def lease_record(self, lease: Lease) -> LeaseRecord:
        new = self.new
        return LeaseRecord(
            ref=LeaseRef(new.queue, new.id, lease.grant),
            type=new.type,
            attempt=self.attempt,
            lease_until=lease.until,
            retry=new.retry,
        )


def cost_of(new: NewJob) -> int:
    """About how many bytes of memory a job takes as it is pushed."""
    return JOB_OVERHEAD + len(new.envelope) + 2 * len(new.unique_key or "")


def current_cost(new: NewJob, told: Job | JobRecord) -> int:
    """About how many bytes a job takes with what its workers have told."""
    size = cost_of(new) + len(told.result)
    if (failure := told.failure) is not None:
        size += len(failure.type) + len(failure.message) + len(failure.trace)
    if (progress := told.progress) is not None:
        size += len(progress.message) + len(progress.checkpoint)
    return size
