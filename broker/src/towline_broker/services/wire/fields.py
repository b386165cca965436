"""Fields of protobuf's wire format that are bytes: text, bytes and messages.

https://protobuf.dev/programming-guides/encoding/
"""

from google.protobuf.descriptor import Descriptor

_LENGTH_DELIMITED = 2
_SHORT = [bytes((size,)) for size in range(0x80)]


def tag(kind: Descriptor, name: str) -> bytes:
    """What stands before the size of the field's bytes. The field's number must be below 16."""
    return bytes((kind.fields_by_name[name].number << 3 | _LENGTH_DELIMITED,))


def varint(value: int) -> bytes:
    """``value`` must not be negative."""
    if value < 0x80:
        return _SHORT[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    return bytes((value & 0x7F | 0x80,)) + varint(value >> 7)


def size_at(raw: bytes, at: int) -> tuple[int, int]:
    """The size that is written there, and where it ends. Raises IndexError where the bytes end too
    early, ValueError for one that is written in more bytes than it needs, or has more than 28 bits.
    """
    size, shift = raw[at], 7
    if size > 0x7F:
        size &= 0x7F
        while True:
            at += 1
            byte = raw[at]
            size |= (byte & 0x7F) << shift
            if 0 < byte <= 0x7F:
                break
            shift += 7
            if not byte or shift > 21:
                raise ValueError("not a size as protobuf writes it")
    return size, at + 1
