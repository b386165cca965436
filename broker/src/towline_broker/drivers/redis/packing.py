"""Jobs in the form in which Redis keeps them; the scripts read the same (``parts/records.lua``).

As pushed: a head, then the envelope; never changed. What has become of a job stands in its row,
which a job that is as it was pushed does not have.
"""

from dataclasses import dataclass, field
from enum import IntFlag
from struct import Struct

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
from towline_broker.domain.retry import DEFAULT_POLICY, RetryPolicy
from towline_broker.domain.time import Micros
from towline_broker.drivers.redis.frames import framed, short

#: Larger envelopes are kept apart from the job, so that looking at many jobs stays cheap.
APART = 1024


class Flag(IntFlag):
    """Which optional parts a head has, in this order."""

    ORDERED = 1
    DUE = 2
    EXPIRES = 4
    RETAINED = 8
    KEYED = 16
    TIMED = 32
    RETRYING = 64
    APART = 128


_HEAD = Struct("<BQi")
_TIME = Struct("<q")
_SHORT = Struct("<H")
_LONG = Struct("<I")
_ROW = Struct("<BBiiqqqqqq")
_PROGRESS = Struct("<dI")
_MEMORY = Struct("<BBqq")
#: In the second byte of a row, beside the reason of the death: the job no longer expires.
_LASTING = 16
_REASONS = 15
#: What failure, progress and result take when there are none.
_NOTHING_TOLD = 3 * _LONG.size
#: By their numbers: faster than asking the class.
_STATES = (JobState.SCHEDULED, *JobState)


@dataclass(slots=True)
class Head:
    """A job as it was pushed. Times that are 0 are not there."""

    id: str
    queue: str
    type: str
    priority: int
    enqueued_at: Micros
    envelope: bytes = b""
    #: Orders jobs of different partitions by their push; 0 in a store with one partition.
    order: int = 0
    due_at: Micros = 0
    expires_at: Micros | None = None
    retention: Micros = 0
    unique_key: str | None = None
    unique_until: Micros | None = None
    #: As :meth:`RetryPolicy.from_text` reads it.
    retry: str | None = None

    def as_new(self) -> NewJob:
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
            retry=RetryPolicy.from_text(self.retry),
        )


@dataclass(slots=True)
class Row:
    """What has become of a job. Times that are 0 are not there."""

    state: JobState
    attempt: int = 0
    releases: int = 0
    available_at: Micros = 0
    started_at: Micros = 0
    finished_at: Micros = 0
    lease_until: Micros = 0
    lease_length: Micros = 0
    grant: str = ""
    worker_id: str = ""
    failure: Failure | None = None
    progress: Progress | None = None
    result: bytes = b""
    dead_reason: DeadReason | None = None
    #: It no longer expires, though its head says when.
    lasting: bool = False


@dataclass(slots=True)
class StoredJob:
    """A job as a script tells of it."""

    number: bytes
    head: Head
    row: Row = field(init=False)

    def __init__(self, number: bytes, static: bytes, row: bytes) -> None:
        self.number = number
        self.head = unpack_head(static)
        self.row = unpack_row(row) if row else _as_pushed(self.head)

    def record(self) -> JobRecord:
        head, row = self.head, self.row
        waiting = row.state in (JobState.SCHEDULED, JobState.READY)
        return JobRecord(
            id=head.id,
            queue=head.queue,
            type=head.type,
            envelope=head.envelope,
            priority=head.priority,
            state=row.state,
            attempt=row.attempt,
            enqueued_at=head.enqueued_at,
            available_at=row.available_at if waiting else None,
            started_at=row.started_at or None,
            finished_at=row.finished_at or None,
            lease_until=row.lease_until or None,
            worker_id=row.worker_id,
            releases=row.releases,
            failure=row.failure,
            progress=row.progress,
            dead_reason=row.dead_reason,
            result=row.result,
        )

    def leased(self) -> Leased:
        head, row = self.head, self.row
        return Leased(
            ref=LeaseRef(head.queue, head.id, row.grant),
            type=head.type,
            envelope=head.envelope,
            attempt=row.attempt,
            lease_until=row.lease_until,
            enqueued_at=head.enqueued_at,
            ready_at=row.available_at,
            failure=row.failure,
            progress=row.progress,
        )

    def lease_record(self) -> LeaseRecord:
        head, row = self.head, self.row
        return LeaseRecord(
            ref=LeaseRef(head.queue, head.id, row.grant),
            type=head.type,
            attempt=row.attempt,
            lease_until=row.lease_until,
            retry=RetryPolicy.from_text(head.retry),
        )


def is_apart(envelope: bytes) -> bool:
    return len(envelope) > APART


def pack_job(new: NewJob, enqueued_at: Micros, due_at: Micros, order: int = 0) -> bytes:
    """``due_at`` 0: READY when it is pushed. An envelope that is apart is not in it."""
    flags = Flag(0)
    parts = [b"", short(new.queue), short(new.type), short(new.id)]
    for flag, time in (
        (Flag.ORDERED, order),
        (Flag.DUE, due_at),
        (Flag.EXPIRES, _kept_time(new.expires_at)),
        (Flag.RETAINED, new.retention),
    ):
        if time:
            flags |= flag
            parts.append(_TIME.pack(time))
    if new.unique_key is not None:
        flags |= Flag.KEYED
        parts.append(short(new.unique_key))
        if new.unique_until is not None:
            flags |= Flag.TIMED
            parts.append(_TIME.pack(_kept_time(new.unique_until)))
    retry = new.retry.to_text() if new.retry is not DEFAULT_POLICY else None
    if retry is not None:
        flags |= Flag.RETRYING
        parts.append(short(retry))
    if is_apart(new.envelope):
        flags |= Flag.APART
        parts.append(_LONG.pack(len(new.envelope)))
    else:
        parts.append(new.envelope)
    parts[0] = _HEAD.pack(flags, enqueued_at, new.priority)
    return b"".join(parts)


def _kept_time(time: Micros | None) -> Micros:
    """0 stands for none, so a time that long past is kept as the one after it."""
    return 0 if time is None else max(time, 1)


class _Reader:
    """Reads one part after the other."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def text(self) -> str:
        (length,) = _SHORT.unpack_from(self.data, self.at)
        start = self.at + 2
        self.at = start + length
        return self.data[start : self.at].decode()

    def time(self) -> Micros:
        (time,) = _TIME.unpack_from(self.data, self.at)
        self.at += 8
        return int(time)

    def blob(self) -> bytes:
        (length,) = _LONG.unpack_from(self.data, self.at)
        start = self.at + 4
        self.at = start + length
        return self.data[start : self.at]

    def rest(self) -> bytes:
        return self.data[self.at :]


def unpack_head(static: bytes) -> Head:
    flags, enqueued_at, priority = _HEAD.unpack_from(static)
    reader = _Reader(static, _HEAD.size)
    queue, type_, job_id = reader.text(), reader.text(), reader.text()
    head = Head(job_id, queue, type_, priority, enqueued_at)
    if flags:
        _read_options(head, flags, reader)
    head.envelope = reader.rest()
    return head


def _read_options(head: Head, flags: int, reader: "_Reader") -> None:
    if flags & Flag.ORDERED:
        head.order = reader.time()
    if flags & Flag.DUE:
        head.due_at = reader.time()
    if flags & Flag.EXPIRES:
        head.expires_at = reader.time()
    if flags & Flag.RETAINED:
        head.retention = reader.time()
    if flags & Flag.KEYED:
        head.unique_key = reader.text()
    if flags & Flag.TIMED:
        head.unique_until = reader.time()
    if flags & Flag.RETRYING:
        head.retry = reader.text()
    if flags & Flag.APART:
        reader.at += _LONG.size


def _as_pushed(head: Head) -> Row:
    if head.due_at:
        return Row(JobState.SCHEDULED, available_at=head.due_at)
    return Row(JobState.READY, available_at=head.enqueued_at)


def unpack_row(packed: bytes) -> Row:
    state, marks, attempt, releases, available, started, finished, until, length, _ = (
        _ROW.unpack_from(packed)
    )
    reader = _Reader(packed, _ROW.size)
    grant, worker_id, _request = reader.text(), reader.text(), reader.text()
    row = Row(
        *(_STATES[state], attempt, releases, available, started),
        *(finished, until, length, grant, worker_id),
    )
    if len(packed) - reader.at > _NOTHING_TOLD:
        failure, progress, row.result = reader.blob(), reader.blob(), reader.blob()
        row.failure = unpack_failure(failure) if failure else None
        row.progress = unpack_progress(progress) if progress else None
    if marks:
        reason = marks & _REASONS
        row.dead_reason = DeadReason(reason) if reason else None
        row.lasting = bool(marks & _LASTING)
    return row


def place_of(packed: bytes) -> int:
    """What orders the job among those of its state."""
    return int(_ROW.unpack_from(packed)[-1])


def pack_row(row: Row) -> bytes:
    """The row of a job that is not LEASED; the script gives it its place."""
    marks = int(row.dead_reason or 0) | (_LASTING if row.lasting else 0)
    numbers = _ROW.pack(
        *(row.state, marks, row.attempt, row.releases, row.available_at, row.started_at),
        *(row.finished_at, row.lease_until, row.lease_length, 0),
    )
    failure = b"" if row.failure is None else pack_failure(row.failure)
    progress = b"" if row.progress is None else pack_progress(row.progress)
    names = short(row.grant) + short(row.worker_id) + short("")
    return numbers + names + framed(failure) + framed(progress) + framed(row.result)


def pack_failure(failure: Failure) -> bytes:
    texts = (failure.type, failure.message, failure.trace)
    return _TIME.pack(failure.at) + b"".join(framed(text.encode()) for text in texts)


def unpack_failure(packed: bytes) -> Failure:
    reader = _Reader(packed, 0)
    at = reader.time()
    type_, message, trace = (reader.blob().decode() for _ in range(3))
    return Failure(type_, message, trace, at)


def pack_progress(progress: Progress) -> bytes:
    message = progress.message.encode()
    return _PROGRESS.pack(progress.fraction, len(message)) + message + progress.checkpoint


def unpack_progress(packed: bytes) -> Progress:
    fraction, length = _PROGRESS.unpack_from(packed)
    at = _PROGRESS.size + length
    return Progress(fraction, packed[_PROGRESS.size : at].decode(), packed[at:])


def unpack_memory(job_id: str, packed: bytes) -> JobRecord:
    """A job known only from the settle memory."""
    state, _, finished_at, _ = _MEMORY.unpack_from(packed)
    reader = _Reader(packed, _MEMORY.size)
    queue, _grant = reader.text(), reader.text()
    return JobRecord.remembered(job_id, queue, JobState(state), finished_at, reader.rest())
