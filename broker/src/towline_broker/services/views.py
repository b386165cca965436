"""Jobs and leases of the core as messages."""

from towline.v1.job_pb2 import (
    Failure,
    Job,
    JobInfo,
    Lease,
    Progress,
)
from towline_broker.core import tokens
from towline_broker.domain import jobs as domain
from towline_broker.domain.time import Micros
from towline_broker.services.times import to_duration, to_timestamp
from towline_broker.services.words import DEAD_REASONS, STATES


def to_lease(leased: domain.Leased, now: Micros) -> Lease:
    message = Lease(
        lease_token=tokens.encode(leased.ref),
        attempt=leased.attempt,
        lease_remaining=to_duration(max(0, leased.lease_until - now)),
        enqueued_at=to_timestamp(leased.enqueued_at),
        last_failure=_failure(leased.failure),
        last_progress=_progress(leased.progress),
    )
    message.job.ParseFromString(leased.envelope)
    return message


def to_info(record: domain.JobRecord, now: Micros, *, full: bool) -> JobInfo:
    info = JobInfo(
        state=STATES[record.state],
        attempt=record.attempt,
        worker_id=record.worker_id,
        releases=record.releases,
        last_failure=_failure(record.failure),
        progress=_progress(record.progress),
    )
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
    info.job.ClearField("headers")
    if info.HasField("last_failure"):
        info.last_failure.ClearField("trace")
    if info.HasField("progress"):
        info.progress.ClearField("checkpoint")


def _failure(failure: domain.Failure | None) -> Failure | None:
    if failure is None:
        return None
    return Failure(
        type=failure.type,
        message=failure.message,
        trace=failure.trace,
        failed_at=to_timestamp(failure.at),
    )


def _progress(progress: domain.Progress | None) -> Progress | None:
    if progress is None:
        return None
    return Progress(
        fraction=progress.fraction,
        message=progress.message,
        checkpoint=progress.checkpoint,
    )
