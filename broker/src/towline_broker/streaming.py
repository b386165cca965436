"""What the rooms around a stream do for its single messages.

Around a call that is one request and one answer, interceptors see both. Of a stream they see where
it begins and where it ends. What is in between is told to them by its service, through the scope
into which each of them has put its part. Stands beside the rooms, for services and interceptors do
not know each other.
"""

import logging
import secrets
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

from towline_broker.domain.errors import TowlineError
from towline_broker.domain.events import event
from towline_broker.status import WireError, internal_error, wire_error

log = logging.getLogger("towline.broker")

PUSH_STREAM = "/towline.v1.QueueService/PushStream"
WORK = "/towline.v1.QueueService/Work"
#: As which their messages are told of, to whoever is told of calls.
PUSH, RESERVE, ACK, NACK = (
    f"/towline.v1.QueueService/{name}" for name in ("Push", "Reserve", "Ack", "Nack")
)
STREAMS = frozenset({PUSH_STREAM, WORK})


class Gate(Protocol):
    """Bounds what the identity of a stream has under way."""

    def message(self, size: int, *, settles: bool) -> None:
        """One of so many bytes has come in. Raises Full."""

    def call(self) -> None:
        """One of those in it begins that count as a call of their own. Raises Full."""

    def answered(self, size: int) -> None:
        """So many bytes of messages are not under way any more."""

    def writes(self, size: int) -> None:
        """So many bytes of answers wait for their reader; fewer, if negative."""


class OpenGate:
    def message(self, size: int, *, settles: bool) -> None:
        pass

    def call(self) -> None:
        pass

    def answered(self, size: int) -> None:
        pass

    def writes(self, size: int) -> None:
        pass


#: Is told of what a message asked for as if it had been a call of its own: its method, request and
#: reply (messages; no reply if it failed), when it began (nanoseconds of the Unix epoch), and how
#: it failed.
Observe: TypeAlias = Callable[[str, Any, Any, int, Exception | None], None]


def describe(error: Exception) -> WireError:
    """How a failure of one message looks to its caller. What the broker did not raise on purpose
    tells nothing but a reference, under which the log has the rest."""
    if isinstance(error, TowlineError):
        return wire_error(error)
    reference = secrets.token_hex(6)
    log.error(
        "a message of a stream failed unexpectedly; reference %s",
        reference,
        exc_info=error,
        extra=event("defect", method="stream", reference=reference),
    )
    return internal_error(reference)


class Scope:
    """Of one stream."""

    __slots__ = ("about", "answers", "describe", "gate", "observe")

    def __init__(self) -> None:
        self.gate: Gate = OpenGate()
        self.describe: Callable[[Exception], WireError] = describe
        self.observe: Observe | None = None
        #: Of its pushes and messages, by gRPC code.
        self.answers: Counter[str] = Counter()
        #: What is told of it in the log once it is over.
        self.about: dict[str, object] = {}


_current: ContextVar[Scope | None] = ContextVar("towline_stream", default=None)


def stream_scope() -> Scope:
    """Of the stream that is being served: made for who asks first."""
    scope = _current.get()
    if scope is None:
        scope = Scope()
        _current.set(scope)
    return scope
