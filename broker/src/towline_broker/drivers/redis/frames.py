"""Many parts as one string: each part with its length before it, as scripts and driver exchange
them. One long argument or reply is far cheaper than many short ones."""

from collections.abc import Iterable, Iterator
from struct import Struct

_LENGTH = Struct("<I")
_SHORT = Struct("<H")


def framed(part: bytes) -> bytes:
    return _LENGTH.pack(len(part)) + part


def short(text: str) -> bytes:
    """A name or an id, of less than 64 KiB."""
    encoded = text.encode()
    return _SHORT.pack(len(encoded)) + encoded


def join(parts: Iterable[bytes]) -> bytes:
    return b"".join(framed(part) for part in parts)


def split(blob: bytes) -> Iterator[bytes]:
    at, end = 0, len(blob)
    while at < end:
        (length,) = _LENGTH.unpack_from(blob, at)
        at += 4
        yield blob[at : at + length]
        at += length


def groups(blob: bytes, size: int) -> Iterator[tuple[bytes, ...]]:
    """The parts, so many at a time."""
    parts = split(blob)
    return zip(*[parts] * size, strict=True)
