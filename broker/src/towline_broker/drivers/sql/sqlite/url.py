"""``sqlite:///relative.db``, ``sqlite:////absolute/path.db``, then ``?name=value``."""

from dataclasses import dataclass
from pathlib import Path

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.registry import parse_url

_FORMS = "write sqlite:///relative.db or sqlite:////absolute/path.db"


@dataclass(frozen=True, slots=True)
class SqliteUrl:
    path: Path
    #: Push is refused while the file system has less than this free, in bytes.
    min_free_bytes: int = 64 * 1024 * 1024


def parse(url: str) -> SqliteUrl:
    """Raises StoreRefused if the URL is not of this form."""
    parts = parse_url(url, ["min_free_bytes"])
    path = parts.place.removeprefix("///")
    if path == parts.place:
        raise StoreRefused(f"{url!r} is no place for a SQLite store; {_FORMS}")
    if not path or path.endswith("/") or path == ":memory:" or "\0" in path:
        raise StoreRefused(
            f"{url!r} names no file; {_FORMS}, or memory: for a store that ends with the process"
        )
    reserve = parts.options.get("min_free_bytes")
    if reserve is None:
        return SqliteUrl(Path(path))
    if not (reserve.isascii() and reserve.isdecimal()):
        raise StoreRefused(f"{url!r}: min_free_bytes is {reserve!r}, not a number of bytes")
    return SqliteUrl(Path(path), int(reserve))
