"""Jobs and leases of the core as messages."""

from towline.v1.job_pb2 import (
    AttemptLimits,
    Failure,
    Job,
    JobInfo,
    Progress,
)
from towline_broker.domain import jobs as domain
from towline_broker.domain.time import Micros
from towline_broker.services.enums import DEAD_REASONS, STATES
from towline_broker.services.limits import Limits
from towline_broker.services.times import to_duration, to_timestamp

#: The one header that lists show, if it has no more bytes than these.
DISPLAY_NAME_HEADER = "towline-display-name"
MAX_DISPLAY_NAME = 512


def attempt_limits(limits: Limits) -> AttemptLimits | None:
    """None: they are those that the contract states."""
    if limits.of_attempts == Limits().of_attempts:
        return None
    result, checkpoint, message = limits.of_attempts
    return AttemptLimits(
        result_bytes=result, checkpoint_bytes=checkpoint, progress_message_bytes=message
    )


def to_info(record: domain.JobRecord, now: Micros, *, full: bool) -> JobInfo:
    info = JobInfo(
        state=STATES[record.state],
        attempt=record.attempt,
        worker_id=record.worker_id,
        releases=record.releases,
    )
    if record.failure is not None:
        info.last_failure.CopyFrom(to_failure(record.failure))
    if record.progress is not None:
        info.progress.CopyFrom(to_progress(record.progress))
    if record.dead_reason is not None:
        info.dead_reason = DEAD_REASONS[record.dead_reason]
    if record.lease_until is not None:
        info.lease_remaining.CopyFrom(to_duration(max(0, record.lease_until - now)))
    _set_times(info, record)
    if record.envelope:
        info.job.ParseFromString(record.envelope)
    else:
        info.job.CopyFrom(Job(id=record.id, queue=record.queue))
    if full:
        info.result = record.result
    else:
        _reduce(info)
    return info


def _set_times(info: JobInfo, record: domain.JobRecord) -> None:
    if record.envelope:  # what the settle memory keeps does not tell
        info.enqueued_at.CopyFrom(to_timestamp(record.enqueued_at))
    if record.available_at is not None:
        info.available_at.CopyFrom(to_timestamp(record.available_at))
    if record.started_at is not None:
        info.started_at.CopyFrom(to_timestamp(record.started_at))
    if record.finished_at is not None:
        info.finished_at.CopyFrom(to_timestamp(record.finished_at))


def _reduce(info: JobInfo) -> None:
    """To the BASIC view."""
    info.job.ClearField("payload")
    name = info.job.headers.get(DISPLAY_NAME_HEADER, "")
    info.job.ClearField("headers")
    if 0 < len(name.encode()) <= MAX_DISPLAY_NAME:
        info.job.headers[DISPLAY_NAME_HEADER] = name
    if info.HasField("last_failure"):
        info.last_failure.ClearField("trace")
    if info.HasField("progress"):
        info.progress.ClearField("checkpoint")


def to_failure(failure: domain.Failure) -> Failure:
    return Failure(
        type=failure.type,
        message=failure.message,
        trace=failure.trace,
        failed_at=to_timestamp(failure.at),
    )


def to_progress(progress: domain.Progress) -> Progress:
    return Progress(
        fraction=progress.fraction,
        message=progress.message,
        checkpoint=progress.checkpoint,
    )
