"""``mysql://user:password@host:port/database?name=value``."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.sql.versions import UPGRADE_OPTION, wants_upgrade
from towline_broker.drivers.urls import shown_url

_FORM = "write mysql://user:password@host:3306/database"
#: The least and the most that each may be.
_NUMBERS = {"lanes": (1, 64), "readers": (1, 64), "timeout": (1, 60)}
_TEXTS = ("unix_socket", "sslmode", "sslrootcert", "sslcert", "sslkey")
SSL_MODES = ("disable", "require", "verify-ca", "verify-full")


@dataclass(frozen=True, slots=True)
class MySQLUrl:
    #: Fit to be shown: without its password.
    shown: str
    host: str
    port: int
    user: str
    #: Not to be shown.
    password: str
    database: str
    unix_socket: str | None = None
    sslmode: str = "disable"
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    #: Connections that change, and connections that look.
    lanes: int = 4
    readers: int = 2
    #: Seconds after which a statement is given up, and a call without a connection.
    timeout: int = 5
    #: Tables of an earlier release are brought up to date when the store is opened.
    upgrade: bool = False


def parse(url: str) -> MySQLUrl:
    """Raises StoreRefused for what is no url of this form, or has an option that is unknown or has
    no good value."""
    shown = shown_url(url)
    try:
        parts = urlsplit(url)
        port = parts.port or 3306
    except ValueError:
        raise StoreRefused(f"{shown!r} has no good host and port; {_FORM}") from None
    database = unquote(parts.path.removeprefix("/"))
    if not url.partition(":")[2].startswith("//") or not database or "/" in database:
        raise StoreRefused(f"{shown!r} names no database; {_FORM}")
    if not parts.username:
        raise StoreRefused(f"{shown!r} names no user; {_FORM}")
    return MySQLUrl(
        shown=shown.partition("?")[0],
        host=parts.hostname or "127.0.0.1",
        port=port,
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
        database=database,
        **_options(parts.query, shown),
    )


def _options(query: str, shown: str) -> dict[str, Any]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise StoreRefused(f"{shown!r}: options are written ?name=value&name=value") from None
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in _NUMBERS:
            found[name] = _number(shown, name, value)
        elif name == UPGRADE_OPTION:
            found[name] = wants_upgrade(repr(shown), {name: value})
        elif name in _TEXTS and value:
            found[name] = value
        else:
            known = ", ".join((*_NUMBERS, UPGRADE_OPTION, *_TEXTS))
            raise StoreRefused(
                f"{shown!r}: {name!r} is no option of this store, or has no value; known are "
                f"{known}"
            )
    mode = found.get("sslmode", "disable")
    if mode not in SSL_MODES:
        raise StoreRefused(
            f"{shown!r}: option 'sslmode' is {mode!r}; it is one of {', '.join(SSL_MODES)}"
        )
    return found


def _number(shown: str, name: str, value: str) -> int:
    least, most = _NUMBERS[name]
    if not (value.isascii() and value.isdecimal() and least <= int(value) <= most):
        raise StoreRefused(
            f"{shown!r}: option {name!r} is {value!r}; it needs a number from {least} to {most}"
        )
    return int(value)
