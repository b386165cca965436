"""Messages of a Work stream as they come in.

Most do nothing but ack, and give credits for as many. Their acks are left as bytes, and those of a
message are read together.
"""

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError

from towline.v1.queue_service_pb2 import WorkRequest
from towline_broker.core.calls import AckCall
from towline_broker.domain.errors import InvalidField
from towline_broker.partial import partial_class
from towline_broker.services.acks import calls_of
from towline_broker.services.limits import Limits

#: Of an opening nothing is looked at but whether it is there: for that it must not be bytes.
_Part = partial_class(
    WorkRequest.DESCRIPTOR,
    {
        "open": {"worker_id": {}},
        "sequence": {},
        "withdraw": {},
        "credits": {},
        "acks": {},
        "nacks": {},
        "heartbeats": {},
    },
)


def read_request(raw: bytes) -> WorkRequest:
    """Raises InvalidField."""
    try:
        return WorkRequest.FromString(raw)
    except DecodeError:
        raise _no_message() from None


def read_acks(raw: bytes, limits: Limits) -> tuple[Any, Sequence[AckCall] | None]:
    """The message, and what its acks ask for if it does nothing to leases but ack them, and all of
    them can be read. Of such a message, and of one about no lease, only what is neither an ack nor
    an opening can be looked at in the message. Raises InvalidField."""
    try:
        part = _Part.FromString(raw)
    except DecodeError:
        raise _no_message() from None
    entries = part.acks
    if part.nacks or part.heartbeats or part.HasField("open"):
        return read_request(raw), None
    if not entries:
        return part, None
    calls = calls_of(list(entries), limits)
    return (read_request(raw), None) if calls is None else (part, calls)


def _no_message() -> InvalidField:
    return InvalidField("", "the bytes are no message of this stream")
