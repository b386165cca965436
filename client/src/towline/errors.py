"""Every exception of the SDK.

    TowlineError
    ├── ConfigurationError       an address or a setting is wrong
    ├── ClientClosed             the client was used after it was closed
    ├── InvalidJob               a job is defined or used wrongly
    ├── InvalidPayload           data does not fit what the job declares, or is no JSON
    ├── CallFailed               a call to the broker failed: .code, .reason
    │   ├── InvalidArgument      the broker refused a field: .violations
    │   ├── NotFound             no such job, queue or worker
    │   ├── ResourceExhausted    disk, memory or waiting calls: try again after .retry_after
    │   │   └── QueueFull
    │   ├── NotSupported         the store behind the queue cannot do what was asked
    │   ├── BrokerUnavailable    no broker there, or it is draining: .retry_after
    │   │   └── HandshakeFailed  somebody is there, and certificates or TLS settings do not fit
    │   ├── DeadlineExceeded     no answer in time; the effect is unknown
    │   ├── PermissionDenied
    │   ├── Unauthenticated
    │   └── BrokerError          a defect of the broker, or an answer that makes no sense
    ├── BatchFailed              some jobs of a batch were not stored: .stored, .errors
    ├── JobFailed                the awaited job ended dead
    ├── JobCancelled             the awaited job was cancelled
    ├── ResultTimeout            the awaited job did not end in time; it may still do so
    ├── LeaseLost                the job is no longer this worker's
    └── NoCurrentJob (towline.context), MiddlewareError (towline.middleware), and those of
        towline.worker.errors

What a handler raises to say what becomes of its job (Retry, Reject, Release) is no error and stands
in towline.control.

After InvalidArgument, NotFound, ResourceExhausted, NotSupported, PermissionDenied and
Unauthenticated nothing was changed. After BrokerUnavailable, DeadlineExceeded and BrokerError the
effect is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc
    from google.protobuf.duration_pb2 import Duration

    from towline.v1 import errors_pb2

__all__ = [
    "BatchFailed",
    "BrokerError",
    "BrokerUnavailable",
    "CallFailed",
    "ClientClosed",
    "ConfigurationError",
    "DeadlineExceeded",
    "HandshakeFailed",
    "InvalidArgument",
    "InvalidJob",
    "InvalidPayload",
    "JobCancelled",
    "JobFailed",
    "LeaseLost",
    "NotFound",
    "NotSupported",
    "PermissionDenied",
    "QueueFull",
    "ResourceExhausted",
    "ResultTimeout",
    "TowlineError",
    "Unauthenticated",
    "Violation",
    "from_item_error",
    "from_rpc_error",
    "from_status",
]


class TowlineError(Exception):
    """Root of the hierarchy; see the head of this module."""

    def __reduce__(self) -> tuple[Any, ...]:
        return as_it_is(self)


def as_it_is(error: BaseException) -> tuple[Any, ...]:
    """Have an error copied, or sent to another process by multiprocessing, with all it holds.

    Left alone, Python would make it anew from its message, which not every ``__init__`` is for.
    """
    return _again, (type(error), error.args, vars(error))


def _again(kind: type[BaseException], args: tuple[Any, ...], held: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(held)
    return error


class ConfigurationError(TowlineError):
    """An address or a setting is wrong; the message names it and what it may be."""


class ClientClosed(TowlineError):
    """The client was used after its ``close``, or closed while a call was under way."""

    def __init__(self) -> None:
        super().__init__("this client is closed: make a new one")


class InvalidJob(TowlineError):
    """A job is defined, dispatched or used wrongly; nothing was sent."""


class InvalidPayload(TowlineError):
    """Data does not fit what the job declares, or cannot be written or read."""


class CallFailed(TowlineError):
    """A call to the broker failed.

    ``code`` is the name of the gRPC status (such as ``NOT_FOUND``); ``reason`` is the broker's own
    (such as ``QUEUE_NOT_FOUND``), empty when the failure did not come from a Towline broker.
    """

    def __init__(self, message: str, *, code: str = "UNKNOWN", reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Violation:
    """One wrong field of a call: its path in the request, and what is wrong with it."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


class InvalidArgument(CallFailed):
    """The broker refused a field: ``violations`` says which, and what is wrong with each."""

    def __init__(
        self, message: str, *, violations: tuple[Violation, ...] = (), reason: str = ""
    ) -> None:
        super().__init__(message, code="INVALID_ARGUMENT", reason=reason)
        self.violations = violations

    @classmethod
    def of(cls, violations: tuple[Violation, ...], reason: str) -> InvalidArgument:
        """Return the error that tells of these violations."""
        listed = "; ".join(str(violation) for violation in violations)
        return cls(listed, violations=violations, reason=reason)


class NotFound(CallFailed):
    """There is no such job, queue or worker, or it is no longer kept."""


class NotSupported(CallFailed):
    """The store behind the queue cannot do what was asked, so trying again does not help."""


class ResourceExhausted(CallFailed):
    """Something is full. ``retry_after`` is in seconds, None when the broker gave no time.

    ``subjects`` names what is full, such as ``("queue:emails",)``.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        retry_after: float | None = None,
        subjects: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, code="RESOURCE_EXHAUSTED", reason=reason)
        self.retry_after = retry_after
        self.subjects = subjects


class QueueFull(ResourceExhausted):
    """The queue holds as many jobs as it may."""


class BrokerUnavailable(CallFailed):
    """No broker could be reached, or it is draining. ``retry_after`` as in ResourceExhausted."""

    def __init__(self, message: str, *, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, code="UNAVAILABLE", reason=reason)
        self.retry_after = retry_after


class HandshakeFailed(BrokerUnavailable):
    """Somebody answers, but no connection came about: certificates or settings of TLS do not fit.

    The message says which, and what to set. Nothing was sent.
    """


class DeadlineExceeded(CallFailed):
    """No answer came in time; what was asked may be done all the same."""


class PermissionDenied(CallFailed):
    """The broker knows who calls, and does not let them do this."""


class Unauthenticated(CallFailed):
    """The broker wants credentials, or does not take these."""


class BrokerError(CallFailed):
    """A defect of the broker, or an answer that makes no sense; the effect is unknown."""


class BatchFailed(TowlineError):
    """Some jobs of a batch were not stored, the others were.

    ``stored`` maps the place of a job in the batch to the id under which it is stored; ``errors``
    maps each other place to what went wrong. After BrokerUnavailable, DeadlineExceeded or
    BrokerError a job may have been stored all the same.
    """

    def __init__(self, stored: Mapping[int, str], errors: Mapping[int, TowlineError]) -> None:
        first = min(errors)
        super().__init__(
            f"{len(errors)} of {len(errors) + len(stored)} jobs of the batch were not stored; "
            f"the first is job {first}: {errors[first]}"
        )
        self.stored = stored
        self.errors = errors


class JobFailed(TowlineError):
    """The awaited job is in the dead-letter queue.

    ``dead_reason`` is one of ATTEMPTS_EXHAUSTED, REJECTED, EXPIRED, LEASE_EXPIRED. The failure of
    the last attempt is in ``failure_type``, ``failure_message`` and ``trace`` (each may be empty);
    the trace, being that of another process, is also attached as a note.
    """

    def __init__(
        self,
        job_id: str,
        *,
        dead_reason: str = "",
        failure_type: str = "",
        failure_message: str = "",
        trace: str = "",
    ) -> None:
        failure = ": ".join(part for part in (failure_type, failure_message) if part)
        why = f" ({dead_reason})" if dead_reason else ""
        super().__init__(f"job {job_id} is dead{why}" + (f": {failure}" if failure else ""))
        self.job_id = job_id
        self.dead_reason = dead_reason
        self.failure_type = failure_type
        self.failure_message = failure_message
        self.trace = trace
        if trace:
            self.add_note(f"In the worker:\n{trace}")


class JobCancelled(TowlineError):
    """The job was cancelled: it has no result."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} was cancelled")
        self.job_id = job_id


class ResultTimeout(TowlineError):
    """``state`` is the state of the job when the waiting ended, such as ``READY``."""

    def __init__(self, job_id: str, timeout: float, state: str) -> None:
        super().__init__(f"job {job_id} has not ended within {timeout:g} s: it is {state}")
        self.job_id = job_id
        self.timeout = timeout
        self.state = state


class LeaseLost(TowlineError):
    """The lease was taken back, or the job cancelled: this attempt's outcome is not recorded."""


@dataclass(frozen=True)
class _Details:
    """What a broker said about a failure beyond its code and message."""

    reason: str = ""
    violations: tuple[Violation, ...] = ()
    subjects: tuple[str, ...] = ()
    retry_after: float | None = None


def from_rpc_error(error: grpc.RpcError, target: str = "") -> CallFailed:
    """Return the exception that says what a failed call means; ``target`` is where it was sent."""
    call: Any = (
        error  # every RpcError that a call raises is a grpc.Call as well, which no type says
    )
    try:
        code: str = call.code().name
        message: str = call.details() or ""
        metadata = call.trailing_metadata() or ()
    except AttributeError:
        return BrokerError(str(error) or type(error).__name__)
    details = _Details()
    for key, value in metadata:
        if key == "grpc-status-details-bin":
            details = _read_details(value)
    where = f" at {target}" if target else ""
    if code == "UNAVAILABLE" and not details.reason:
        message = f"no broker can be reached{where}: {message}"
    if code == "DEADLINE_EXCEEDED" and message.startswith("Deadline Exceeded"):  # gRPC's own words
        message = (
            f"no answer in time from the broker{where}; what was asked may be done all the same"
        )
    return _build(code, message, details)


def from_status(status: errors_pb2.Status) -> CallFailed:
    """Return the exception for what failed over a stream, which is what a call fails with."""
    details = _read_details(status.SerializeToString())
    return _build(_CODES.get(status.code, "UNKNOWN"), status.message, details)


def from_item_error(error: errors_pb2.ItemError) -> CallFailed:
    """Return the exception for one refused item of a batch."""
    code = _CODES.get(error.code, "UNKNOWN")
    violations = (Violation(error.field, error.message),) if code == "INVALID_ARGUMENT" else ()
    retry_after = _read_delay(error.retry_after) if error.HasField("retry_after") else None
    details = _Details(reason=error.reason, violations=violations, retry_after=retry_after)
    return _build(code, error.message, details)


# By number, so that reading an item's error needs no import of grpc.
_CODES = {
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    16: "UNAUTHENTICATED",
}


def _build(code: str, message: str, details: _Details) -> CallFailed:
    match code:
        case "INVALID_ARGUMENT":
            if details.violations:
                return InvalidArgument.of(details.violations, details.reason)
            return InvalidArgument(message, reason=details.reason)
        case "RESOURCE_EXHAUSTED":
            kind = QueueFull if details.reason == "QUEUE_FULL" else ResourceExhausted
            return kind(
                message,
                reason=details.reason,
                retry_after=details.retry_after,
                subjects=details.subjects,
            )
        case "UNAVAILABLE":
            return BrokerUnavailable(
                message, reason=details.reason, retry_after=details.retry_after
            )
        case "DEADLINE_EXCEEDED":
            return DeadlineExceeded(
                message or "no answer in time", code=code, reason=details.reason
            )
        case "UNIMPLEMENTED" if details.reason == "STORE_CANNOT":
            return NotSupported(message, code=code, reason=details.reason)
    simple = _SIMPLE.get(code, BrokerError)
    return simple(message or f"the call failed with {code}", code=code, reason=details.reason)


_SIMPLE: Mapping[str, type[CallFailed]] = {
    "NOT_FOUND": NotFound,
    "PERMISSION_DENIED": PermissionDenied,
    "UNAUTHENTICATED": Unauthenticated,
}


def _read_details(encoded: bytes) -> _Details:
    # Defining a job must not load the messages; a failed call has loaded them already.
    from google.protobuf.message import DecodeError

    from towline.v1 import errors_pb2

    info = errors_pb2.ErrorInfo()
    bad_request = errors_pb2.BadRequest()
    quota = errors_pb2.QuotaFailure()
    retry = errors_pb2.RetryInfo()
    known = {
        f"type.googleapis.com/google.rpc.{message.DESCRIPTOR.name}": message
        for message in (info, bad_request, quota, retry)
    }
    try:
        for packed in errors_pb2.Status.FromString(encoded).details:
            if packed.type_url in known:
                known[packed.type_url].MergeFromString(packed.value)
    except DecodeError:
        # Some proxy's own idea of this metadata; code and message still say what happened.
        return _Details()
    return _Details(
        reason=info.reason if info.domain == "towline" else "",
        violations=tuple(
            Violation(violation.field, violation.description)
            for violation in bad_request.field_violations
        ),
        subjects=tuple(violation.subject for violation in quota.violations),
        retry_after=_read_delay(retry.retry_delay) if retry.HasField("retry_delay") else None,
    )


def _read_delay(delay: Duration) -> float | None:
    """In seconds; None for what no broker would ask for, and nobody could wait."""
    try:
        seconds = delay.ToTimedelta().total_seconds()
    except (ValueError, OverflowError):
        return None
    return seconds if seconds >= 0 else None
