"""``sqlite:///relative.db``, ``sqlite:////absolute/path.db``, then ``?name=value``."""

from dataclasses import dataclass, replace
from pathlib import Path

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.registry import parse_url
from towline_broker.drivers.sql.versions import UPGRADE_OPTION, wants_upgrade
from towline_broker.drivers.urls import shown_url

_FORMS = "write sqlite:///relative.db or sqlite:////absolute/path.db"


@dataclass(frozen=True, slots=True)
class SqliteUrl:
    path: Path
    #: Push is refused while the file system has less than this free, in bytes.
    min_free_bytes: int = 64 * 1024 * 1024
    #: A store of an older release is brought up to date when it is opened.
    upgrade: bool = False
    #: Whether the whole file is read when it is opened, for damage that SQLite can tell.
    check: bool = True


def parse(url: str) -> SqliteUrl:
    """Raises StoreRefused if the URL is not of this form."""
    shown = repr(shown_url(url))
    parts = parse_url(url, ["min_free_bytes", UPGRADE_OPTION, "check"])
    path = parts.place.removeprefix("///")
    if path == parts.place:
        raise StoreRefused(f"{shown} is no place for a SQLite store; {_FORMS}")
    if not path or path.endswith("/") or path == ":memory:" or "\0" in path:
        raise StoreRefused(
            f"{shown} names no file; {_FORMS}, or memory: for a store that ends with the process"
        )
    check = parts.options.get("check", "true")
    if check not in ("true", "false"):
        raise StoreRefused(f"{shown}: check is {check!r}, not true or false")
    upgrade = wants_upgrade(shown, parts.options)
    found = SqliteUrl(Path(path), upgrade=upgrade, check=check == "true")
    reserve = parts.options.get("min_free_bytes")
    if reserve is None:
        return found
    if not (reserve.isascii() and reserve.isdecimal()):
        raise StoreRefused(f"{shown}: min_free_bytes is {reserve!r}, not a number of bytes")
    return replace(found, min_free_bytes=int(reserve))
