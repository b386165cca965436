"""How an error looks on the wire: the one map from what the broker raises to gRPC.

Stands beside the rooms, because services (errors of single items) and interceptors (errors of whole
calls) both need it and do not know each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from towline.v1.errors_pb2 import (
    BadRequest,
    ErrorInfo,
    ItemError,
    QuotaFailure,
    RetryInfo,
    Status,
)
from towline_broker.domain.errors import (
    CannotVerify,
    Draining,
    Full,
    InvalidField,
    NoRoom,
    NotFound,
    NotSupported,
    PermissionDenied,
    QueueMoved,
    StoreError,
    StoreUnavailable,
    StreamOver,
    TowlineError,
    Unauthenticated,
)
from towline_broker.domain.time import SECOND, Micros

DOMAIN = "towline"
DETAILS_KEY = "grpc-status-details-bin"
#: Tells the retry policy of any gRPC client how long to wait (gRFC A6).
PUSHBACK_KEY = "grpc-retry-pushback-ms"

MAX_VIOLATIONS = 100
#: Details travel in a header, and clients refuse headers of more than 8 KiB in all: with more
#: violations than fit in here they would see nothing at all.
MAX_VIOLATION_BYTES = 4_096
RETRY_AFTER: Micros = 1 * SECOND
STORE_AWAY = "the store cannot be reached or is too busy, for now; the log of the broker says more"


class InvalidRequest(TowlineError):
    """Several fields of one call are wrong. Never empty."""

    def __init__(self, violations: Sequence[InvalidField]) -> None:
        first = str(violations[0])
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        super().__init__(first + more)
        self.violations = violations


@dataclass(frozen=True, slots=True)
class WireError:
    """A failed call as its client sees it."""

    code: grpc.StatusCode
    reason: str
    message: str
    details: Sequence[Message] = ()
    retry_after: Micros | None = None
    #: What a program can read of the reason.
    metadata: Mapping[str, str] = field(default_factory=dict)

    def status(self) -> Status:
        """With its details."""
        status = Status(code=self.code.value[0], message=self.message)
        info = ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        status.details.append(_packed(info))
        for detail in self.details:
            status.details.append(_packed(detail))
        return status

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        details = self.status().SerializeToString()
        metadata: list[tuple[str, str | bytes]] = [(DETAILS_KEY, details)]
        if self.code is grpc.StatusCode.UNAVAILABLE and self.retry_after is not None:
            metadata.append((PUSHBACK_KEY, str(self.retry_after // 1_000)))
        return tuple(metadata)


def wire_error(error: TowlineError) -> WireError:
    """What a call that failed with ``error`` answers."""
    match error:
        case InvalidRequest():
            return _bad_request(str(error), error.violations)
        case InvalidField():
            return _bad_request(str(error), [error])
        case NotFound():
            return WireError(grpc.StatusCode.NOT_FOUND, error.reason, str(error))
        case Full():
            violation = QuotaFailure.Violation(subject=error.subject, description=str(error))
            return WireError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                error.reason,
                str(error),
                [QuotaFailure(violations=[violation]), _retry_info(error.retry_after)],
                error.retry_after,
            )
        case NotSupported():
            return WireError(grpc.StatusCode.UNIMPLEMENTED, "STORE_CANNOT", str(error))
        case Unauthenticated():
            return WireError(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", str(error))
        case PermissionDenied():
            return _denied(error)
        case QueueMoved() | Draining() | CannotVerify() | StreamOver() | StoreError():
            return _not_now(error)
        case _:
            return internal_error("")


def _not_now(
    error: QueueMoved | Draining | CannotVerify | StreamOver | StoreError,
) -> WireError:
    match error:
        case QueueMoved():
            return _unavailable("QUEUE_MOVED", str(error))
        case Draining():
            return _unavailable("DRAINING", str(error))
        case CannotVerify():
            return _unavailable("CANNOT_VERIFY", str(error))
        case StreamOver():
            return _unavailable("STREAM_OVER", str(error))
        case NoRoom():
            return _unavailable("DISK_FULL", str(error))
        case StoreUnavailable():
            # Where the store is, and whose it is, is no business of those who push: the log has it.
            return _unavailable("STORE_UNAVAILABLE", STORE_AWAY)
    return _unavailable("STORE_UNAVAILABLE", "the store of this broker has failed")


def internal_error(reference: str) -> WireError:
    """A defect of the broker. Nothing of the exception gets out; ``reference`` is in the log."""
    message = "internal error of the broker"
    if reference:
        message += f"; its log says more under {reference}"
    return WireError(grpc.StatusCode.INTERNAL, "INTERNAL", message)


def item_error(error: TowlineError) -> ItemError:
    """The same for one item of a batch."""
    wire = wire_error(error)
    code: int = wire.code.value[0]
    if isinstance(error, InvalidField):
        return ItemError(
            code=code, reason=wire.reason, field=error.field, message=error.description
        )
    answer = ItemError(code=code, reason=wire.reason, message=wire.message)
    if wire.retry_after is not None:
        answer.retry_after.CopyFrom(_duration(wire.retry_after))
    return answer


def _bad_request(message: str, violations: Sequence[InvalidField]) -> WireError:
    details = BadRequest()
    size = 0
    for violation in violations[:MAX_VIOLATIONS]:
        entry = BadRequest.FieldViolation(field=violation.field, description=violation.description)
        size += entry.ByteSize() + 4
        if size > MAX_VIOLATION_BYTES:
            break
        details.field_violations.append(entry)
    # An error of the request as a whole has no path to begin with.
    message = message.removeprefix(": ")
    return WireError(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", message, [details])


def _denied(error: PermissionDenied) -> WireError:
    named = {"right": error.right, "queue": error.queue}
    return WireError(
        grpc.StatusCode.PERMISSION_DENIED,
        "PERMISSION_DENIED",
        str(error),
        metadata={key: value for key, value in named.items() if value},
    )


def _unavailable(reason: str, message: str) -> WireError:
    return WireError(
        grpc.StatusCode.UNAVAILABLE, reason, message, [_retry_info(RETRY_AFTER)], RETRY_AFTER
    )


def _retry_info(delay: Micros) -> RetryInfo:
    return RetryInfo(retry_delay=_duration(delay))


def _duration(delay: Micros) -> Duration:
    return Duration(seconds=delay // SECOND, nanos=delay % SECOND * 1_000)


def _packed(detail: Message) -> Any:
    return Any(
        type_url=f"type.googleapis.com/google.rpc.{detail.DESCRIPTOR.name}",
        value=detail.SerializeToString(),
    )
