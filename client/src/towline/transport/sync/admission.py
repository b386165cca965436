"""What a broker refuses to take in, so that a test hears of it, and how it says so."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Literal

from towline.errors import CallFailed, InvalidArgument, Violation
from towline.v1.errors_pb2 import ItemError
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushOutcome, PushResult

MAX_PAYLOAD = 1024 * 1024
MAX_HEADERS = 8 * 1024
MAX_HEADER_KEY = 128
MAX_CONTENT_TYPE = 128
MAX_UNIQUE_KEY = 256
"""Bytes that a broker takes by default."""

MAX_ATTEMPTS = 1000
MAX_RETRY_DELAYS = 100
MAX_MULTIPLIER = 100

MAX_DELAY = timedelta(days=3653)
MAX_PERIOD = timedelta(days=366)
"""How long a broker lets things last by default: before a first attempt, and everything else."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_NAME_FORM = "1 to 128 of A-Z a-z 0-9 . _ : -, beginning with a letter or digit"
_CODES = {"INVALID_ARGUMENT": 3, "UNIMPLEMENTED": 12}


def check(job: Job, path: str) -> None:
    """Raise InvalidArgument, naming every field of the job that a broker would not take."""
    wrong = [*_wrong_names(job), *_wrong_sizes(job), *_wrong_retry(job), *_wrong_times(job)]
    if wrong:
        violations = tuple(Violation(f"{path}.{field}", what) for field, what in wrong)
        raise InvalidArgument.of(violations, "INVALID_FIELD")


_Wrong = Iterator[tuple[str, str]]


def _wrong_names(job: Job) -> _Wrong:
    for field, name in (("queue", job.queue), ("type", job.type)):
        if not _NAME.fullmatch(name):
            shown = ascii(name) if len(name) <= 64 else f"{name[:64]!a}... ({len(name)} characters)"
            yield field, f"is {shown}; expected {_NAME_FORM}"


def _wrong_sizes(job: Job) -> _Wrong:
    headers = sum(len(key.encode()) + len(value.encode()) for key, value in job.headers.items())
    for field, size, most in (
        ("payload", len(job.payload), MAX_PAYLOAD),
        ("content_type", len(job.content_type.encode()), MAX_CONTENT_TYPE),
        ("headers", headers, MAX_HEADERS),
        ("unique_key", len(job.unique_key.encode()), MAX_UNIQUE_KEY),
    ):
        if size > most:
            yield field, f"has {size} bytes; at most {most} are allowed"
    for key in job.headers:
        if not 1 <= len(key.encode()) <= MAX_HEADER_KEY:
            yield "headers", f"a key has {len(key.encode())} bytes; expected 1 to {MAX_HEADER_KEY}"


def _wrong_retry(job: Job) -> _Wrong:
    attempts, delays = job.retry.max_attempts, len(job.retry.delays.delays)
    multiplier = job.retry.exponential.multiplier
    if attempts > MAX_ATTEMPTS:
        yield "retry.max_attempts", f"is {attempts}; expected 1 to {MAX_ATTEMPTS}"
    if delays > MAX_RETRY_DELAYS:
        yield "retry.delays.delays", f"has {delays} entries; expected 1 to {MAX_RETRY_DELAYS}"
    if multiplier > MAX_MULTIPLIER:
        yield "retry.exponential.multiplier", f"is {multiplier:g}; expected 1 to {MAX_MULTIPLIER}"


_Lasting = Literal["delay", "expires_in", "timeout", "retention", "unique_for"]
_LASTING: Mapping[_Lasting, timedelta] = {
    "delay": MAX_DELAY,
    "expires_in": MAX_DELAY,
    "timeout": MAX_PERIOD,
    "retention": MAX_PERIOD,
    "unique_for": MAX_PERIOD,
}


def _wrong_times(job: Job) -> _Wrong:
    for field, most in _LASTING.items():
        # By its seconds: not every Duration is a timedelta.
        if job.HasField(field) and getattr(job, field).seconds > most.total_seconds():
            yield field, f"is too long; expected at most {most.days} d"
    if job.HasField("run_at") and job.run_at.seconds > time.time() + MAX_DELAY.total_seconds():
        yield "run_at", "is more than 10 years ahead"
    for index, delay in enumerate(job.retry.delays.delays):
        if delay.seconds > MAX_PERIOD.total_seconds():
            yield (
                f"retry.delays.delays[{index}]",
                f"is too long; expected at most {MAX_PERIOD.days} d",
            )
    if job.HasField("unique_for") and not job.unique_key:
        yield "unique_for", "is set without unique_key"


def rejected(job: Job, error: CallFailed) -> PushResult:
    """Return the answer for one job of a push that may be stored in part."""
    answer = ItemError(code=_CODES[error.code], reason=error.reason, message=str(error))
    if isinstance(error, InvalidArgument):
        violation = error.violations[0]
        answer.field, answer.message = violation.field, violation.description
    return PushResult(job_id=job.id, outcome=PushOutcome.PUSH_OUTCOME_REJECTED, error=answer)
