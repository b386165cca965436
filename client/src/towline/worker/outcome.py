"""What a handler's end means to the broker: results and exceptions as Acks and Nacks."""

from __future__ import annotations

import traceback
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from google.protobuf.duration_pb2 import Duration

from towline import calls
from towline.context import JobContext
from towline.control import JobControl, Reject, Release, Retry
from towline.middleware import handling, layers
from towline.middleware.interface import AttemptOutcome
from towline.v1.job_pb2 import Failure
from towline.v1.queue_service_pb2 import Ack, Nack
from towline.v1.queue_service_pb2 import Release as ReleaseAction

# What the broker keeps of a failure, in bytes. Cut here, so that one failure cannot fill a message.
_MAX_TYPE = 256
_MAX_MESSAGE = 4 * 1024
_MAX_TRACE = 32 * 1024

# Whose frames come before those of the handler: the worker, and what runs middleware around it.
_OURS = (str(Path(__file__).parent), calls.__file__, handling.__file__, layers.__file__)


def ack(token: str, result: bytes) -> Ack:
    return Ack(lease_token=token, result=result)


def retry_by_policy(token: str, failure: Failure) -> Nack:
    return Nack(lease_token=token, failure=failure)


def retry_after(token: str, failure: Failure, seconds: float) -> Nack:
    return Nack(lease_token=token, failure=failure, retry_after=_duration(seconds))


def dead_letter(token: str, failure: Failure) -> Nack:
    return Nack(lease_token=token, failure=failure, dead_letter=True)


def release(token: str, failure: Failure | None = None, seconds: float | None = None) -> Nack:
    """``seconds`` is how long the job is not leased again; None for not at all."""
    action = ReleaseAction() if seconds is None else ReleaseAction(delay=_duration(seconds))
    return Nack(lease_token=token, failure=failure, release=action)


def of_control(token: str, control: JobControl) -> Nack:
    """What a handler asked for by raising Retry, Reject or Release."""
    failure = failure_of(control)
    match control:
        case Retry(after=float(seconds)):
            return retry_after(token, failure, seconds)
        case Reject():
            return dead_letter(token, failure)
        case Release():
            return release(token, failure, control.after)
    return retry_by_policy(token, failure)


def is_release(nack: Nack) -> bool:
    return nack.WhichOneof("action") == "release"


def of_settlement(settlement: Ack | Nack, context: JobContext) -> AttemptOutcome:
    """What a settlement makes of its job, once the broker has it."""
    if isinstance(settlement, Ack):
        return AttemptOutcome.SUCCEEDED
    if is_release(settlement):
        return AttemptOutcome.RELEASED
    dead = settlement.WhichOneof("action") == "dead_letter"
    if dead or context.is_last_attempt:
        return AttemptOutcome.DEAD
    return AttemptOutcome.RETRIED


def failure_of(error: BaseException) -> Failure:
    return Failure(
        type=_cut(type(error).__name__, _MAX_TYPE),
        message=_cut(_text(error), _MAX_MESSAGE),
        trace=_cut_start(trace_of(error), _MAX_TRACE),
    )


def trace_of(error: BaseException) -> str:
    """The stack trace, without the frames of the worker that called the handler."""
    frames: TracebackType | None = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OURS):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # the text of an error is the handler's: it may do anything
        return "(its message cannot be shown)"


def _cut(text: str, limit: int) -> str:
    # Also makes it fit to be sent: an exception's text may hold what is no UTF-8.
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def _cut_start(text: str, limit: int) -> str:
    return text.encode("utf-8", "replace")[-limit:].decode("utf-8", "ignore")


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration
