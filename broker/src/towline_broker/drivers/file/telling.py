"""Records of a journal for people: fields by their names, strings and leases in place."""

from collections.abc import Callable
from dataclasses import fields
from enum import IntEnum
from typing import Any

import msgspec

from towline_broker.domain.jobs import DeadReason, JobState, Settlement, Totals
from towline_broker.drivers.file.rows import Record

#: How bytes are told; True for an envelope.
TellBytes = Callable[[bytes, bool], Any]

_TOTALS = [field.name for field in fields(Totals)]
_NAMES = frozenset({"queue", "type", "grant", "name"})
_ENUMS: dict[str, type[IntEnum]] = {
    "state": JobState,
    "dead_reason": DeadReason,
    "settlement": Settlement,
}


def told(record: Record, tell_bytes: TellBytes) -> dict[str, Any]:
    """Ready for JSON. What is not set is left out."""
    content: dict[str, Any] = {"now": record.now}
    for field in record.__struct_fields__:
        value = getattr(record, field)
        if value and field not in ("now", "names", "leases"):
            content[field] = _told("", value, record, tell_bytes)
    return content


def _told(field: str, value: Any, record: Record, tell_bytes: TellBytes) -> Any:
    if isinstance(value, bytes):
        return tell_bytes(value, field == "envelope")
    if field == "totals":
        return {name: total for name, total in zip(_TOTALS, value, strict=False) if total}
    if isinstance(value, list):
        of_one = "envelope" if field == "envelopes" else ""
        return [_told(of_one, one, record, tell_bytes) for one in value]
    if isinstance(value, msgspec.Struct):
        return _told_row(value, record, tell_bytes)
    if field in _ENUMS and value in list(_ENUMS[field]):
        return _ENUMS[field](value).name
    return value


def _told_row(row: msgspec.Struct, record: Record, tell_bytes: TellBytes) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for field in row.__struct_fields__:
        value = getattr(row, field)
        if value is None or value == b"":
            continue
        if field in _NAMES and isinstance(value, int):
            content[field] = record.names[value]
        elif field == "lease":
            content[field] = _told_row(record.leases[value], record, tell_bytes)
        else:
            content[field] = _told(field, value, record, tell_bytes)
    return content
