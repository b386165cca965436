"""A job in the model, with all that there is to know of it in plain sight."""

from dataclasses import dataclass

from towline_broker.domain.jobs import (
    DeadReason,
    Failure,
    JobRecord,
    JobState,
    Leased,
    LeaseRecord,
    LeaseRef,
    NewJob,
    Progress,
)
from towline_broker.domain.time import Micros

LIVE = (JobState.SCHEDULED, JobState.READY, JobState.LEASED)
WAITING = (JobState.SCHEDULED, JobState.READY)


@dataclass
class ModelJob:
    new: NewJob
    enqueued_at: Micros
    expires_at: Micros | None
    state: JobState = JobState.READY
    #: Jobs of one priority leave in this order; equal ones in any.
    place: int = 0
    attempt: int = 0
    releases: int = 0
    available_at: Micros = 0
    ready_at: Micros = 0
    started_at: Micros | None = None
    finished_at: Micros | None = None
    grant: str = ""
    lease_until: Micros = 0
    lease_length: Micros = 0
    worker_id: str = ""
    request_id: str = ""
    failure: Failure | None = None
    progress: Progress | None = None
    dead_reason: DeadReason | None = None
    result: bytes = b""

    @property
    def id(self) -> str:
        return self.new.id

    @property
    def ref(self) -> LeaseRef:
        return LeaseRef(self.new.queue, self.new.id, self.grant)

    def record(self) -> JobRecord:
        leased = self.state is JobState.LEASED
        return JobRecord(
            id=self.id,
            queue=self.new.queue,
            type=self.new.type,
            envelope=self.new.envelope,
            priority=self.new.priority,
            state=self.state,
            attempt=self.attempt,
            enqueued_at=self.enqueued_at,
            available_at=self.available_at if self.state in WAITING else None,
            started_at=self.started_at,
            finished_at=self.finished_at,
            lease_until=self.lease_until if leased else None,
            worker_id=self.worker_id if leased else "",
            releases=self.releases,
            failure=self.failure,
            progress=self.progress,
            dead_reason=self.dead_reason,
            result=self.result,
        )

    def leased(self) -> Leased:
        return Leased(
            self.ref,
            self.new.type,
            self.new.envelope,
            self.attempt,
            self.lease_until,
            self.enqueued_at,
            self.ready_at,
            self.failure,
            self.progress,
        )

    def lease_record(self) -> LeaseRecord:
        return LeaseRecord(self.ref, self.new.type, self.attempt, self.lease_until, self.new.retry)


@dataclass
class Remembered:
    queue: str
    state: JobState
    result: bytes
    finished_at: Micros
    until: Micros
