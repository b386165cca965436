"""Times, durations and numbers of the contract: for JSON, and for people."""

from datetime import UTC, datetime
from typing import Protocol

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


class EnumType(Protocol):
    """What the generated code has for each enum."""

    DESCRIPTOR: EnumDescriptor


def enum_name(enum: EnumType, value: int) -> str:
    """Return the name of a value without the prefix that all names of its enum have.

    A value that a newer broker has and this command does not know is shown by its number.
    """
    names = enum.DESCRIPTOR.values_by_number
    if value not in names:
        return str(value)
    prefix = names[0].name.removesuffix("UNSPECIFIED")
    return names[value].name.removeprefix(prefix)


def at(message: Message, field: str) -> datetime | None:
    """Return the Timestamp in a field of the message, None when it is unset."""
    if not message.HasField(field):
        return None
    stamp: Timestamp = getattr(message, field)
    return stamp.ToDatetime(tzinfo=UTC)


def length(message: Message, field: str) -> float | None:
    """Return the seconds of the Duration in a field of the message, None when it is unset."""
    if not message.HasField(field):
        return None
    duration: Duration = getattr(message, field)
    return duration.seconds + duration.nanos / 1e9


def iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def local(moment: datetime | None) -> str:
    """Return a time for people: local, to the second."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float | None) -> str:
    """Return a duration for people, such as ``840 us``, ``12.5 ms``, ``3.2 s`` or ``2h05m``."""
    if seconds is None:
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 48 else f"{hours // 24}d{hours % 24:02}h"


def share(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def count(value: int) -> str:
    return f"{value:,}"


def many(value: int, what: str) -> str:
    """Return the count with its noun: ``1 dead job``, ``1,200 dead jobs``."""
    return f"{value:,} {what}" if value == 1 else f"{value:,} {what}s"
