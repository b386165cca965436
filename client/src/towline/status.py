"""What has become of a job."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NoReturn, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from towline import protobuf
from towline.context import Failure, Progress
from towline.errors import BrokerError, InvalidJob, InvalidPayload, JobCancelled, JobFailed
from towline.options import display_name_of
from towline.serialization import codec_for
from towline.serializers import Serializers, media_type, read, standard
from towline.v1 import job_pb2

ErrorClass: TypeAlias = type[Exception]
ErrorClasses: TypeAlias = ErrorClass | Iterable[ErrorClass]
"""Classes of exceptions that a handler may die of, and that its producer wants to catch."""


class JobState(StrEnum):
    """Where a job is between its dispatch and its end."""

    UNKNOWN = "UNKNOWN"
    """A state that this version of the SDK does not know."""
    SCHEDULED = "SCHEDULED"
    """Waits for its time: delayed, or between two attempts."""
    READY = "READY"
    """Waits for a worker."""
    LEASED = "LEASED"
    """Held by a worker."""
    SUCCEEDED = "SUCCEEDED"
    DEAD = "DEAD"
    """In the dead-letter queue."""
    CANCELLED = "CANCELLED"


class DeadReason(StrEnum):
    """Why a job is in the dead-letter queue."""

    UNKNOWN = "UNKNOWN"
    """A reason that this version of the SDK does not know."""
    ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"
    REJECTED = "REJECTED"
    """Its handler or its worker refused it."""
    EXPIRED = "EXPIRED"
    """Not started in time."""
    LEASE_EXPIRED = "LEASE_EXPIRED"
    """The worker of the last attempt died, hung or was cut off."""


_STATES = {
    job_pb2.JOB_STATE_SCHEDULED: JobState.SCHEDULED,
    job_pb2.JOB_STATE_READY: JobState.READY,
    job_pb2.JOB_STATE_LEASED: JobState.LEASED,
    job_pb2.JOB_STATE_SUCCEEDED: JobState.SUCCEEDED,
    job_pb2.JOB_STATE_DEAD: JobState.DEAD,
    job_pb2.JOB_STATE_CANCELLED: JobState.CANCELLED,
}
_DEAD_REASONS = {
    job_pb2.DEAD_REASON_ATTEMPTS_EXHAUSTED: DeadReason.ATTEMPTS_EXHAUSTED,
    job_pb2.DEAD_REASON_REJECTED: DeadReason.REJECTED,
    job_pb2.DEAD_REASON_EXPIRED: DeadReason.EXPIRED,
    job_pb2.DEAD_REASON_LEASE_EXPIRED: DeadReason.LEASE_EXPIRED,
}
_ENDED = frozenset({JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED})


@dataclass(frozen=True)
class JobStatus:
    """A job and what has become of it, at the moment of the answer. Times are in UTC.

    id, queue      of a job that ended a while ago nothing else of what was pushed may be known
    attempt        1 while the first attempt runs; 0 before
    enqueued_at    when the broker accepted it
    available_at   when it became READY, or will
    started_at     when its latest attempt began
    finished_at    when it ended
    failure        why the latest failed attempt failed
    dead_reason    set when it is DEAD
    worker_id      who runs it, when it is LEASED
    releases       how often a worker gave it back without running it
    result_bytes   what the handler returned, as it travels
    content_type   how payload and result are written; empty of a job that is no longer kept
    serializers    which the result is read by
    """

    id: str
    queue: str
    type: str
    state: JobState
    attempt: int
    priority: int
    headers: Mapping[str, str] = field(repr=False)
    enqueued_at: datetime | None
    available_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    failure: Failure | None
    progress: Progress | None
    dead_reason: DeadReason | None
    worker_id: str
    releases: int
    result_bytes: bytes = field(repr=False)
    content_type: str = ""
    serializers: Serializers = field(default_factory=standard, repr=False, compare=False)

    @property
    def display_name(self) -> str:
        """What the job is to be called; its type if it was given no name."""
        return display_name_of(self.type, self.headers)

    @property
    def ended(self) -> bool:
        """Whether it is SUCCEEDED, DEAD or CANCELLED."""
        return self.state in _ENDED

    @property
    def result(self) -> Any:
        """What the handler returned, as JSON values; None as long as there is nothing.

        Raises InvalidPayload when it cannot be read: take ``result_bytes`` then.
        """
        return self._read_result(None)

    def written_as(self, content_type: str) -> JobStatus:
        """Return the status with what the producer knows: how payload and result are written."""
        return dataclasses.replace(self, content_type=content_type) if content_type else self

    def outcome(self, into: Any = None, errors: ErrorClasses = ()) -> Any:
        """Return the result of a job that ended, as JSON values.

        ``into`` is a type, such as a dataclass or a protobuf message, of which it is to be. Raises
        JobFailed or JobCancelled when the job ended otherwise, and InvalidPayload when the result
        cannot be read, or does not fit the type. When the class of the error that the job died of
        has the name of one of ``errors``, that one is raised instead of JobFailed, with its notes.
        """
        classes = _error_classes(errors)
        if self.state is JobState.CANCELLED:
            raise JobCancelled(self.id)
        if self.state is JobState.DEAD:
            self._raise_failure(classes)
        return self._read_result(into)

    def _raise_failure(self, errors: Iterable[ErrorClass]) -> NoReturn:
        failure = self.failure or Failure("", "", "", None)
        failed = JobFailed(
            self.id,
            dead_reason=self.dead_reason or "",
            failure_type=failure.type,
            failure_message=failure.message,
            trace=failure.trace,
        )
        for kind in errors:
            if kind.__name__ == failure.type:
                raise _remade(kind, failed)
        raise failed

    def _read_result(self, into: Any) -> Any:
        path = f"result of job {self.id}"
        if media_type(self.content_type) in protobuf.CONTENT_TYPES:
            return _read_message(into, self.result_bytes, path)
        if not self.result_bytes:
            return None
        serializer = self.serializers.find(self.content_type)
        if serializer is None:
            raise InvalidPayload(
                f"{path}: is {self.content_type!r}, which this client does not read: "
                "Client(serializer=...), or take result_bytes"
            )
        result = read(self.result_bytes, path, serializer)
        return result if into is None else codec_for(into, path).decode(result, path)


def _error_classes(errors: ErrorClasses) -> list[ErrorClass]:
    classes: list[Any] = [errors] if isinstance(errors, type) else list(errors)
    for kind in classes:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise InvalidJob(f"errors: expected exception classes, got {kind!r}")
    return classes


def _remade(kind: type[Exception], failed: JobFailed) -> Exception:
    """The error of the handler as one of a class that the caller named."""
    try:
        error = kind(failed.failure_message)
    except Exception:  # its class wants more than a message
        return failed
    error.add_note(f"job {failed.job_id} is dead ({failed.dead_reason})")
    for note in getattr(failed, "__notes__", ()):
        error.add_note(note)
    return error


def _read_message(into: Any, data: bytes, path: str) -> Any:
    if protobuf.is_message_type(into):
        return protobuf.read(into, data, path)
    if data:
        raise InvalidPayload(
            f"{path}: is a protobuf message: name its class, result(into=...), or take result_bytes"
        )
    return None


def read_info(info: job_pb2.JobInfo, serializers: Serializers | None = None) -> JobStatus:
    """Return what a broker tells of a job; ``serializers`` read its result (standard ones)."""
    job = info.job

    def moment(name: str) -> datetime | None:
        known = info.HasField(name)  # type: ignore[arg-type]  # the stub wants literals
        return read_time(getattr(info, name)) if known else None

    return JobStatus(
        id=job.id,
        queue=job.queue,
        type=job.type,
        state=_STATES.get(info.state, JobState.UNKNOWN),
        attempt=info.attempt,
        priority=job.priority,
        headers=dict(job.headers),
        enqueued_at=moment("enqueued_at"),
        available_at=moment("available_at"),
        started_at=moment("started_at"),
        finished_at=moment("finished_at"),
        failure=read_failure(info.last_failure) if info.HasField("last_failure") else None,
        progress=read_progress(info.progress) if info.HasField("progress") else None,
        dead_reason=(
            _DEAD_REASONS.get(info.dead_reason, DeadReason.UNKNOWN) if info.dead_reason else None
        ),
        worker_id=info.worker_id,
        releases=info.releases,
        result_bytes=info.result,
        content_type=job.content_type,
        serializers=serializers or standard(),
    )


def read_failure(failure: job_pb2.Failure) -> Failure:
    failed_at = read_time(failure.failed_at) if failure.HasField("failed_at") else None
    return Failure(failure.type, failure.message, failure.trace, failed_at)


def read_progress(progress: job_pb2.Progress) -> Progress:
    return Progress(progress.fraction, progress.message, progress.checkpoint)


def read_time(timestamp: Timestamp) -> datetime:
    """Raises BrokerError for what is no time."""
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        told = f"{timestamp.seconds} s and {timestamp.nanos} ns"
        raise BrokerError(f"the broker's answer holds a time that is none: {told}") from None
