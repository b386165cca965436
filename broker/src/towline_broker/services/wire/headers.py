"""The headers of a job as they stand in its bytes: entries of a map, one after the other, behind
its content type.

Each job may have its own, such as the trace that it belongs to; so they are looked at by
themselves.
"""

from towline.v1.job_pb2 import Job
from towline_broker.services.wire.fields import size_at, tag

_CONTENT_TYPE, _HEADERS = (tag(Job.DESCRIPTOR, name)[0] for name in ("content_type", "headers"))
_KEY, _VALUE = (tag(Job.HeadersEntry.DESCRIPTOR, name)[0] for name in ("key", "value"))


def cut_out(rest: bytes, most_key: int, most_bytes: int) -> tuple[bytes, int]:
    """What is left of the fields that follow a job's payload without its headers, and how many
    headers there were: all ASCII, no key twice, none longer than ``most_key``, and of at most
    ``most_bytes`` together.

    Raises IndexError or ValueError for headers that are anything else.
    """
    start = 0
    if rest[:1] == bytes((_CONTENT_TYPE,)):
        size, start = size_at(rest, 1)
        start += size
    at, total = start, 0
    keys: set[bytes] = set()
    while at < len(rest) and rest[at] == _HEADERS:
        size, at = size_at(rest, at + 1)
        key, value = _split(rest[at : at + size], size)
        at += size
        total += len(key) + len(value)
        if key in keys or not 0 < len(key) <= most_key or total > most_bytes:
            raise ValueError("a header that is refused, or of which only one counts")
        if not (key.isascii() and value.isascii()):
            raise ValueError("a header whose text has to be looked at")
        keys.add(key)
    return rest[:start] + rest[at:], len(keys)


def _split(entry: bytes, size: int) -> tuple[bytes, bytes]:
    """Its key and its value. Raises IndexError, ValueError."""
    key_size, key_at = size_at(entry, 1)
    key_end = key_at + key_size
    value_size, value_at = size_at(entry, key_end + 1)
    if value_at + value_size != size or len(entry) != size:
        raise ValueError("more than a key and a value, or less")
    if entry[0] != _KEY or entry[key_end] != _VALUE:
        raise ValueError("something else than a key and a value")
    return entry[key_at:key_end], entry[value_at:]
