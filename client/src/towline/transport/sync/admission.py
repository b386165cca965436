"""What a broker refuses to take in, so that a test hears of it, and how it says so."""

from __future__ import annotations

from towline.errors import CallFailed, InvalidArgument, Violation
from towline.v1.errors_pb2 import ItemError
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushOutcome, PushResult

MAX_PAYLOAD = 1024 * 1024
MAX_HEADERS = 8 * 1024
"""Bytes that a broker takes by default."""

_CODES = {"INVALID_ARGUMENT": 3, "UNIMPLEMENTED": 12}


def check_size(job: Job, path: str) -> None:
    """Raise InvalidArgument, naming the field, for a job that is too large to travel."""
    headers = sum(len(key.encode()) + len(value.encode()) for key, value in job.headers.items())
    for name, size, most in (
        ("payload", len(job.payload), MAX_PAYLOAD),
        ("headers", headers, MAX_HEADERS),
    ):
        if size > most:
            violation = Violation(f"{path}.{name}", f"has {size} bytes; at most {most} are taken")
            raise InvalidArgument.of((violation,), "INVALID_FIELD")


def rejected(job: Job, error: CallFailed) -> PushResult:
    """Return the answer for one job of a push that may be stored in part."""
    answer = ItemError(code=_CODES[error.code], reason=error.reason, message=str(error))
    if isinstance(error, InvalidArgument):
        [violation] = error.violations
        answer.field, answer.message = violation.field, violation.description
    return PushResult(job_id=job.id, outcome=PushOutcome.PUSH_OUTCOME_REJECTED, error=answer)
