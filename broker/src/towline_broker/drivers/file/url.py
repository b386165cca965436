"""``file:///relative/directory``, ``file:////absolute/directory``, then ``?name=value``."""

from dataclasses import dataclass
from pathlib import Path

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.file.segments import LEAST_BYTES
from towline_broker.drivers.registry import parse_url
from towline_broker.drivers.urls import shown_url

_FORMS = "write file:///relative/directory or file:////absolute/directory"
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileUrl:
    directory: Path
    #: No new segment is made for new jobs that would leave the file system less free, in bytes.
    min_free_bytes: int = 64 * _MIB
    #: Of one file of the journal.
    segment_bytes: int = 32 * _MIB
    #: Push is refused once the store takes about so many bytes of memory.
    max_bytes: int = 4096 * _MIB


def parse(url: str) -> FileUrl:
    """Raises StoreRefused if the URL is not of this form."""
    shown = repr(shown_url(url))
    parts = parse_url(url, ["min_free_bytes", "segment_bytes", "max_bytes"])
    path = parts.place.removeprefix("///")
    if path == parts.place:
        raise StoreRefused(f"{shown} is no place for a file store; {_FORMS}")
    if not path or "\0" in path:
        raise StoreRefused(f"{shown} names no directory; {_FORMS}")
    numbers = {name: _number(shown, name, text) for name, text in parts.options.items()}
    if numbers.get("segment_bytes", LEAST_BYTES) < LEAST_BYTES:
        raise StoreRefused(f"{shown}: segment_bytes is less than {LEAST_BYTES}")
    if numbers.get("max_bytes") == 0:
        raise StoreRefused(f"{shown}: max_bytes must be above 0")
    return FileUrl(Path(path), **numbers)


def _number(shown: str, name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise StoreRefused(f"{shown}: {name} is {text!r}, not a number of bytes")
    return int(text)
