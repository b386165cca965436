"""A job between a store and a line of an export, and back."""

from google.protobuf.message import DecodeError
from msgspec.structs import replace

from towline.v1.job_pb2 import Job
from towline_broker.archive.lines import FailureLine, JobLine, ProgressLine, Retry
from towline_broker.core.retrying import after_lost_lease
from towline_broker.domain.jobs import (
    DeadReason,
    Failure,
    JobRecord,
    JobState,
    NewJob,
    Progress,
)
from towline_broker.domain.names import NAME_FORM, is_name, is_uuid
from towline_broker.domain.retry import (
    DEFAULT_POLICY,
    DelayList,
    ExponentialBackoff,
    RetryPolicy,
)
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Transfer

_STATES = {state.name: state for state in JobState}
_REASONS = {reason.name: reason for reason in DeadReason}


class NotAJob(ValueError):
    """A line that no store can hold. The message says what is wrong with it."""


# --- out ------------------------------------------------------------------------------------------


def line_of(transfer: Transfer) -> JobLine:
    new, record = transfer.new, transfer.record
    line = JobLine(
        *(record.id, record.queue, record.type, record.state.name, record.enqueued_at),
        *(record.priority, record.attempt, record.releases, record.available_at),
        *(record.started_at, record.finished_at, record.lease_until, record.worker_id),
        *(new.expires_at, new.retention, transfer.keep_until),
        *(new.unique_key, new.unique_until, transfer.holds_key),
        None if new.retry == DEFAULT_POLICY else _retry_line(new.retry),
        None if record.dead_reason is None else record.dead_reason.name,
        _failure_line(record.failure),
        _progress_line(record.progress),
        record.result,
    )
    _take_apart(record.envelope, line)
    return line


def _take_apart(envelope: bytes, line: JobLine) -> None:
    try:
        job = Job.FromString(envelope)
    except DecodeError:
        line.rest = envelope
        return
    line.payload, line.content_type = job.payload, job.content_type
    line.headers = dict(job.headers)
    for field in ("payload", "content_type", "headers"):
        job.ClearField(field)
    line.rest = job.SerializeToString()


def _retry_line(policy: RetryPolicy) -> Retry:
    backoff = policy.backoff
    if isinstance(backoff, DelayList):
        return Retry(policy.max_attempts, policy.jitter, list(backoff.delays))
    return Retry(
        *(policy.max_attempts, policy.jitter, None),
        *(backoff.initial, backoff.multiplier, backoff.maximum),
    )


def _failure_line(failure: Failure | None) -> FailureLine | None:
    if failure is None:
        return None
    return FailureLine(failure.type, failure.message, failure.trace, failure.at)


def _progress_line(progress: Progress | None) -> ProgressLine | None:
    if progress is None:
        return None
    return ProgressLine(progress.fraction, progress.message, progress.checkpoint)


# --- back -----------------------------------------------------------------------------------------


def transfer_of(line: JobLine, queue: str, now: Micros) -> Transfer:
    """As the store is to receive it, into this queue. A lease does not outlive its store: the job
    is as one whose lease was lost at ``now``.

    Raises NotAJob.
    """
    policy = DEFAULT_POLICY if line.retry is None else _policy_of(line.retry)
    new = NewJob(
        id=line.id,
        queue=queue,
        type=line.type,
        envelope=_put_together(line, queue),
        priority=line.priority,
        expires_at=line.expires_at,
        retention=line.retention,
        unique_key=line.unique_key,
        unique_until=line.unique_until,
        retry=policy,
    )
    transfer = Transfer(new, _record_of(line, new), line.holds_key, line.keep_until)
    return _without_lease(transfer, now) if transfer.record.state is JobState.LEASED else transfer


def _without_lease(transfer: Transfer, now: Micros) -> Transfer:
    new, record = transfer.new, replace(transfer.record, lease_until=None, worker_id="")
    verdict = after_lost_lease(new.retry, record.attempt, now)
    if verdict.dead_reason is None:
        return replace(transfer, record=replace(record, state=JobState.READY, available_at=now))
    dead = replace(record, state=JobState.DEAD, finished_at=now, dead_reason=verdict.dead_reason)
    return replace(
        transfer, record=dead, holds_key=transfer.holds_key and new.unique_until is not None
    )


def check(line: JobLine) -> None:
    """Raises NotAJob where :func:`transfer_of` would, and for names that no broker takes."""
    if not is_uuid(line.id):
        raise NotAJob("id: expected a UUID")
    for field, name in (("queue", line.queue), ("type", line.type)):
        if not is_name(name):
            raise NotAJob(f"{field}: {name!r} is no name; expected {NAME_FORM}")
    state_of(line)
    if line.dead_reason is not None:
        _reason_of(line)
    if line.retry is not None:
        _policy_of(line.retry)


def _record_of(line: JobLine, new: NewJob) -> JobRecord:
    return JobRecord(
        *(new.id, new.queue, new.type, new.envelope, new.priority),
        *(state_of(line), line.attempt, line.enqueued_at),
        available_at=line.available_at,
        started_at=line.started_at,
        finished_at=line.finished_at,
        lease_until=line.lease_until,
        worker_id=line.worker_id,
        releases=line.releases,
        failure=_failure_of(line.failure),
        progress=_progress_of(line.progress),
        dead_reason=None if line.dead_reason is None else _reason_of(line),
        result=line.result,
    )


def _failure_of(line: FailureLine | None) -> Failure | None:
    return None if line is None else Failure(line.type, line.message, line.trace, line.at)


def _progress_of(line: ProgressLine | None) -> Progress | None:
    return None if line is None else Progress(line.fraction, line.message, line.checkpoint)


def state_of(line: JobLine) -> JobState:
    """Raises NotAJob."""
    state = _STATES.get(line.state)
    if state is None:
        raise NotAJob(f"state: {line.state!r} is none of {', '.join(_STATES)}")
    return state


def _reason_of(line: JobLine) -> DeadReason:
    reason = _REASONS.get(line.dead_reason or "")
    if reason is None:
        raise NotAJob(f"dead_reason: {line.dead_reason!r} is none of {', '.join(_REASONS)}")
    return reason


def _policy_of(line: Retry) -> RetryPolicy:
    backoff: DelayList | ExponentialBackoff
    if line.delays:
        backoff = DelayList(tuple(line.delays))
    elif line.initial is not None and line.multiplier is not None and line.maximum is not None:
        backoff = ExponentialBackoff(line.initial, line.multiplier, line.maximum)
    else:
        raise NotAJob("retry: expected delays, or initial, multiplier and maximum")
    return RetryPolicy(line.max_attempts, backoff, line.jitter)


def _put_together(line: JobLine, queue: str) -> bytes:
    try:
        job = Job.FromString(line.rest)
    except DecodeError:
        return line.rest  # as it was: see _take_apart
    job.payload, job.content_type = line.payload, line.content_type
    job.headers.update(line.headers)
    if queue != line.queue:
        job.queue = queue
    return job.SerializeToString()
