"""``postgresql://user:password@host:port/database?name=value``, as libpq reads it, with options of
our own."""

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.sql.versions import UPGRADE_OPTION, wants_upgrade
from towline_broker.drivers.urls import shown_url

#: Options of libpq that asyncpg knows.
_LIBPQ = (
    *("host", "port", "dbname", "user", "password", "passfile", "service"),
    *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs"),
    *("krbsrvname", "gsslib", "search_path"),
)
#: Our own: the least and the most that each may be.
_OURS = {"lanes": (1, 64), "readers": (1, 64), "timeout": (1, 60)}


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    #: For the client, without our options. Not to be shown: it may hold a password.
    dsn: str
    #: Connections that change, and connections that look.
    lanes: int = 4
    readers: int = 2
    #: Seconds after which a statement is given up, and a call without a connection.
    timeout: int = 5
    #: Tables of an earlier release are brought up to date when the store is opened.
    upgrade: bool = False


def parse(url: str) -> PostgresUrl:
    """Raises StoreRefused for an option that is unknown or has no good value."""
    shown = repr(shown_url(url))
    place, _, query = url.partition("?")
    scheme, _, rest = place.partition(":")
    if not rest.startswith("//"):
        raise StoreRefused(f"{shown}: write postgresql://user:password@host:5432/database")
    ours: dict[str, int] = {}
    theirs: list[tuple[str, str]] = []
    upgrade = False
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise StoreRefused(f"{shown}: options are written ?name=value&name=value") from None
    for name, value in pairs:
        if name in _OURS:
            ours[name] = _number(shown, name, value)
        elif name == UPGRADE_OPTION:
            upgrade = wants_upgrade(shown, {name: value})
        elif name in _LIBPQ:
            theirs.append((name, value))
        else:
            known = ", ".join((*_OURS, UPGRADE_OPTION, *_LIBPQ))
            raise StoreRefused(f"{shown}: {name!r} is no option of this store; known are {known}")
    if "," in rest.removeprefix("//").partition("/")[0].rpartition("@")[2]:
        theirs = _of_several_hosts(theirs)
    dsn = f"{scheme.lower()}:{rest}" + (f"?{urlencode(theirs)}" if theirs else "")
    return PostgresUrl(dsn, **ours, upgrade=upgrade)


def _number(shown: str, name: str, value: str) -> int:
    least, most = _OURS[name]
    if not (value.isascii() and value.isdecimal() and least <= int(value) <= most):
        raise StoreRefused(
            f"{shown}: option {name!r} is {value!r}; it needs a number from {least} to {most}"
        )
    return int(value)


def _of_several_hosts(options: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of several hosts the one that takes changes is meant."""
    if any(name == "target_session_attrs" for name, _ in options):
        return options
    return [*options, ("target_session_attrs", "read-write")]
