"""Of how many parts a request is made, before it is made of them (P11).

A message in memory can be a hundred times as large as its bytes: two of them are an empty job,
which takes up some 190. So a request that has room for far more parts than any good one is looked
over, and refused, while it is still bytes.
"""

from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from towline_broker.domain.errors import InvalidField
from towline_broker.interceptors.plain_batches import is_plain

#: Requests of fewer bytes are read as they are: they come to a few MiB at most.
SMALL_BYTES = 64 * 1024
#: Items of so few bytes are not looked into.
SMALL_ITEM_BYTES = 4 * 1024
#: For each item that a batch may have.
PARTS_PER_ITEM = 200

_TEXTUAL = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


class TooMany(Exception):
    """``field``: of the request, in which the last part was met; empty if it has no such field."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def check_parts(raw: bytes, kind: Descriptor, most_items: int) -> None:
    """Raises InvalidField if the request has more than twice as many items
    as a batch may have, or more parts in all than so many items can need. Bytes that are no message
    are let through."""
    if len(raw) <= SMALL_BYTES or is_plain(raw, kind, 2 * most_items, SMALL_ITEM_BYTES):
        return
    try:
        _Count(2 * most_items, PARTS_PER_ITEM * most_items).request(raw, kind)
    except IndexError:
        return
    except TooMany as error:
        more = f"has far more entries than the {most_items} of the largest batch; send fewer"
        raise InvalidField(error.field, more if error.field else f"the request {more}") from None


class _Count:
    """Ends by TooMany, or by IndexError where the bytes end too early."""

    def __init__(self, most_items: int, most_parts: int) -> None:
        self._items = most_items
        self._parts = most_parts
        #: Of the request, that is being looked into.
        self._field = ""

    def request(self, raw: bytes, kind: Descriptor) -> None:
        for field, start, end in fields_of(raw, 0, len(raw), kind):
            self._field = field.name if field is not None else ""
            self._items -= 1
            if self._items < 0:
                raise TooMany(self._field)
            if field is not None and end - start > SMALL_ITEM_BYTES:
                self._look_into(raw, field, start, end)

    def _look_into(self, raw: bytes, field: FieldDescriptor, start: int, end: int) -> None:
        if field.message_type is not None:
            for inner, its_start, its_end in fields_of(raw, start, end, field.message_type):
                self._take(1)
                if inner is not None and its_end > its_start:
                    self._look_into(raw, inner, its_start, its_end)
        elif field.is_repeated and field.type not in _TEXTUAL:
            self._take(end - start)  # numbers, packed: each takes a byte or more

    def _take(self, parts: int) -> None:
        self._parts -= parts
        if self._parts < 0:
            raise TooMany(self._field)


def fields_of(
    raw: bytes, at: int, end: int, kind: Descriptor
) -> Iterator[tuple[FieldDescriptor | None, int, int]]:
    """Each field of a message, with where the bytes of its value begin and end: nowhere, if it is
    no text, no message and no packed numbers. Stops at what the parser cannot read either."""
    known = kind.fields_by_number
    while at < end:
        tag, at = _varint(raw, at)
        start = stop = 0
        match tag & 7:
            case 0:
                _, at = _varint(raw, at)
            case 1:
                at += 8
            case 2:
                length, start = _varint(raw, at)
                at = stop = start + length
            case 5:
                at += 4
            case 6 | 7:
                return
            # 3 and 4 begin and end a group, whose fields are met next.
        if at > end:
            return
        yield known.get(tag >> 3), start, stop


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    byte = raw[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    while True:
        at += 1
        byte = raw[at]
        value |= (byte & 127) << shift
        if byte < 128 or shift > 63:
            return value, at + 1
        shift += 7
