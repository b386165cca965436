"""Making bad input out of good: by its bytes, and by the fields of its message."""

import math
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message

#: Where numbers go wrong.
INTEGERS = (0, 1, -1, 2, 99, 100, 101, 999, 1_000, 1_001, 2**31 - 1, -(2**31), 2**32, 2**53 + 1)
LONG_INTEGERS = (*INTEGERS, 2**63 - 1, -(2**63), 315_576_000_000, -315_576_000_001, 253_402_300_800)
NUMBERS = (0.0, -0.0, 0.5, 1.0, -1.0, 1.0000001, 1e308, -1e308, 5e-324, math.nan, math.inf)
TEXTS = ("", "q", "a" * 128, "a" * 129, "\0", "é", "\U0001f600" * 40, " ", "\n", "q/../x", "-")
#: Bytes that mean something where messages, texts and journals are read.
MARKS = (
    b"\0",
    b"\xff",
    b"\x0a\x00",
    b"\x80" * 10,
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"TWLF",
    b"\xff" * 8,
)
#: Items are repeated until a message has about so many bytes.
MOST_BYTES = 32 * 1024

_INTEGER_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}


class ByteMutator:
    """Flips, cuts, repeats and splices; knows no format."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._steps: tuple[Callable[[bytearray], None], ...] = (
            self._flip,
            self._set,
            self._cut,
            self._insert,
            self._repeat,
            self._number,
        )

    def mutate(self, raw: bytes) -> bytes:
        changed = bytearray(raw)
        for _ in range(self._rng.choice((1, 1, 2, 3, 8))):
            self._rng.choice(self._steps)(changed)
        return bytes(changed[:MOST_BYTES])

    def splice(self, one: bytes, other: bytes) -> bytes:
        """The beginning of one and the end of the other."""
        rng = self._rng
        return one[: rng.randrange(len(one) + 1)] + other[rng.randrange(len(other) + 1) :]

    def _flip(self, raw: bytearray) -> None:
        if raw:
            raw[self._rng.randrange(len(raw))] ^= 1 << self._rng.randrange(8)

    def _set(self, raw: bytearray) -> None:
        if raw:
            raw[self._rng.randrange(len(raw))] = self._rng.randrange(256)

    def _cut(self, raw: bytearray) -> None:
        start, end = self._span(raw)
        del raw[start:end]

    def _insert(self, raw: bytearray) -> None:
        at = self._rng.randrange(len(raw) + 1)
        raw[at:at] = self._rng.choice((*MARKS, self._rng.randbytes(self._rng.randrange(1, 9))))

    def _repeat(self, raw: bytearray) -> None:
        start, end = self._span(raw)
        if end > start:
            times = self._rng.choice((2, 3, MOST_BYTES // (end - start)))
            raw[start:end] = raw[start:end] * min(times, 1_000)

    def _number(self, raw: bytearray) -> None:
        at = self._rng.randrange(len(raw) + 1)
        raw[at : at + 4] = struct.pack("<i", self._rng.choice(INTEGERS[:12]))

    def _span(self, raw: bytearray) -> tuple[int, int]:
        start = self._rng.randrange(len(raw) + 1)
        length = self._rng.choice((1, 2, 4, 16, len(raw)))
        return start, min(len(raw), start + self._rng.randrange(length + 1))


class MessageMutator:
    """Changes fields of a message of protobuf, at any depth.

    ``texts``: strings that mean something at the moment, such as ids and tokens; they come and go.
    """

    def __init__(self, rng: Random, texts: Sequence[str] = ()) -> None:
        self._rng = rng
        self._texts = texts
        self._bytes = ByteMutator(rng)

    def mutate(self, raw: bytes, kind: type[Message]) -> bytes:
        """``raw`` is a message of this kind, or is mutated as mere bytes."""
        try:
            message = kind.FromString(raw)
            for _ in range(self._rng.choice((1, 1, 1, 2, 4))):
                self._change(message)
            changed = message.SerializeToString()
        except (DecodeError, EncodeError):
            return self._bytes.mutate(raw)
        if len(changed) > 8 * MOST_BYTES:
            return raw
        if self._rng.random() < 0.05:
            changed += self._unknown_field()
        return changed

    def _change(self, message: Message) -> None:
        fields: list[FieldDescriptor] = list(message.DESCRIPTOR.fields)  # type: ignore[arg-type]  # whose stub has objects
        if not fields:
            return
        field = self._rng.choice(fields)
        if _is_map(field):
            self._change_map(getattr(message, field.name))
        elif field.is_repeated:
            self._change_items(getattr(message, field.name), field)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            if self._rng.random() < 0.15:
                message.ClearField(field.name)
            else:
                inner = getattr(message, field.name)
                inner.SetInParent()
                self._change(inner)
        else:
            setattr(message, field.name, self._value(field, getattr(message, field.name)))

    def _change_items(self, items: Any, field: FieldDescriptor) -> None:
        rng = self._rng
        is_message = field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
        roll = rng.random()
        if items and roll < 0.6:
            if is_message:
                self._change(rng.choice(items))
            else:
                at = rng.randrange(len(items))
                items[at] = self._value(field, items[at])
        elif items and roll < 0.7:
            del items[rng.randrange(len(items)) :]
        elif items and roll < 0.85:
            size = items[0].ByteSize() + 2 if is_message else 8
            times = min(rng.choice((1, 2, 10, 100, 1_001)), MOST_BYTES // max(size, 1))
            items.extend(list(items[:1]) * times)
        elif is_message:
            self._change(items.add())
        else:
            items.append(self._value(field, None))

    def _change_map(self, entries: Any) -> None:
        for _ in range(self._rng.choice((1, 2, 40, 300))):
            entries[self._text("key")] = self._text("value")

    def _value(self, field: FieldDescriptor, now: Any) -> Any:
        rng = self._rng
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                size = rng.choice((0, 1, 7, 100, 4_096))
                return (
                    self._bytes.mutate(now or b"x") if rng.random() < 0.6 else rng.randbytes(size)
                )
            case FieldDescriptor.CPPTYPE_STRING:
                return self._text(now or "")
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return rng.choice((*NUMBERS, -math.inf, rng.uniform(-2, 200)))
            case FieldDescriptor.CPPTYPE_BOOL:
                return rng.random() < 0.5
        low, high = _INTEGER_RANGES[field.cpp_type]
        number = rng.choice((*LONG_INTEGERS, (now or 0) + 1, (now or 0) - 1, rng.randint(0, 7)))
        return max(low, min(high, number))

    def _text(self, now: str) -> str:
        rng = self._rng
        roll = rng.random()
        if self._texts and roll < 0.5:
            return rng.choice(self._texts)
        if roll < 0.7:
            return rng.choice(TEXTS)
        if roll < 0.75:
            return now * rng.choice((2, 200))
        changed = self._bytes.mutate(now.encode(errors="replace")[:4_096])
        return changed.decode(errors="replace")

    def _unknown_field(self) -> bytes:
        """Of any number and type, groups within groups among them."""
        rng = self._rng
        number = rng.choice((16, 100, 2**29 - 1))
        match rng.randrange(4):
            case 0:
                return _tag(number, 0) + b"\xff" * 9 + b"\x01"
            case 1:
                return _tag(number, 2) + _varint(500) + bytes(500)
            case 2:
                depth = rng.choice((1, 50, 99, 101, 5_000))
                return _tag(number, 3) * depth + _tag(number, 4) * depth
        return _tag(number, 5) + b"\xff\xff\xff\x7f"


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    raw = bytearray()
    while value > 127:
        raw.append(value & 127 | 128)
        value >>= 7
    raw.append(value)
    return bytes(raw)
