"""Batches whose items are few and small, as most are: found out by protobuf, which is much faster
than to go over their fields one by one."""

from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from towline_broker.partial import partial_class

#: Larger ones are not read even so: an empty item of two bytes takes sixteen in memory.
MOST_BYTES = 1024 * 1024

_VARINT = 0


def is_plain(raw: bytes, kind: Descriptor, most_items: int, most_item_bytes: int) -> bool:
    """Whether a request consists of items, flags and numbers, so many at most, and no item has more
    bytes than that."""
    if len(raw) > MOST_BYTES or not _is_batch(kind):
        return False
    try:
        batch = _items_only(kind).FromString(raw)
    except DecodeError:
        return False
    items, others = getattr(batch, kind.fields[0].name), UnknownFieldSet(batch)
    if not items or len(items) + len(others) > most_items:
        return False
    if any(others[place].wire_type != _VARINT for place in range(len(others))):
        return False
    return max(map(len, items)) <= most_item_bytes


@cache
def _is_batch(kind: Descriptor) -> bool:
    """Whether its first field is its items, and all others are single numbers, flags or texts."""
    first, *others = kind.fields
    return (
        first.number == 1
        and first.is_repeated
        and first.message_type is not None
        and not any(other.is_repeated or other.message_type is not None for other in others)
    )


@cache
def _items_only(kind: Descriptor) -> Any:
    return partial_class(kind, {kind.fields[0].name: {}})
