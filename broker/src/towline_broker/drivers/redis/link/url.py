"""From the url of a store in Redis to what it says.

::

    redis://[user:password@]host[:port][/db]
    redis+sentinel://[user:password@]host[:port],host[:port]/service[/db]
    redis+cluster://[user:password@]host[:port],host[:port]

``rediss``, ``rediss+sentinel`` and ``rediss+cluster`` are the same over TLS. Options follow as
``?name=value&name=value``. User and password are those of the servers that keep the jobs.
"""

import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from towline_broker.domain.errors import StoreRefused

STANDALONE, SENTINEL, CLUSTER = "standalone", "sentinel", "cluster"
_TOPOLOGIES = {"redis": STANDALONE, "redis+sentinel": SENTINEL, "redis+cluster": CLUSTER}
_PORT = 6379
_SENTINEL_PORT = 26379

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<name>[^\[\]:/@%\s]+))(?::(?P<port>[0-9]+))?"
)
_MOST_PARTITIONS = 1024


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the url says. Its ``str`` is the url without user, password and options."""

    topology: str
    #: The servers of a standalone store (one) or a Cluster (some), or the Sentinels.
    addresses: Sequence[Address]
    tls: ssl.SSLContext | None = None
    user: str | None = None
    password: str | None = None
    #: The name under which the Sentinels know the servers.
    service: str = ""
    db: int = 0
    prefix: str = "towline"
    #: Into how many partitions a new store in a Cluster is divided; None: 32, or what it has.
    partitions: int | None = None
    #: Seconds: how long an answer may take, and how long a call waits for an outage to pass.
    timeout: float = 5.0
    #: A change is answered when so many replicas have it.
    wait_replicas: int = 0
    sentinel_user: str | None = None
    sentinel_password: str | None = None

    def __str__(self) -> str:
        scheme = "rediss" if self.tls else "redis"
        if self.topology != STANDALONE:
            scheme += f"+{self.topology}"
        path = f"/{self.service}" if self.service else ""
        if self.topology != CLUSTER:
            path += f"/{self.db}"
        return f"{scheme}://{','.join(map(str, self.addresses))}{path}"

    def __repr__(self) -> str:
        return f"<Settings {self}>"


def parse_url(url: str) -> Settings:
    """Raises StoreRefused, naming the part of the url that is wrong and never the password."""
    scheme, _, rest = url.partition("://")
    tls = scheme.lower().startswith("rediss")
    topology = _TOPOLOGIES.get(scheme.lower().replace("rediss", "redis", 1))
    if topology is None or not rest:
        raise StoreRefused(
            f"{scheme.partition(':')[0]}: a store in Redis is written redis://host:port/db, "
            "redis+sentinel://host:port,host:port/service or redis+cluster://host:port,host:port "
            "(rediss… over TLS)"
        )
    place, _, query = rest.partition("?")
    credentials, at, where = place.rpartition("@")
    hosts, _, path = where.partition("/")
    port = _SENTINEL_PORT if topology == SENTINEL else _PORT
    addresses = _addresses(scheme, hosts, port)
    settings = Settings(topology, addresses, tls=ssl.create_default_context() if tls else None)
    if topology == STANDALONE and len(addresses) > 1:
        raise StoreRefused(
            f"{settings}: one host, not {len(addresses)}; for several write redis+sentinel:// or "
            "redis+cluster://"
        )
    if at:
        user, colon, password = credentials.partition(":")
        if not colon:
            raise StoreRefused(f"{settings}: what stands before '@' is written user:password")
        settings = replace(settings, user=unquote(user) or None, password=unquote(password) or None)
    return _with_options(_with_path(settings, path), query)


def _addresses(scheme: str, hosts: str, default_port: int) -> tuple[Address, ...]:
    found = []
    for place, part in enumerate(hosts.split(","), start=1):
        match = _HOST.fullmatch(part)
        port = int(match["port"] or default_port) if match else 0
        if match is None or not 0 < port < 65536:
            # A stray '@' or '/' may have made a piece of the password look like a host.
            raise StoreRefused(
                f"{scheme}: host number {place} of the url is not written host:port; special "
                "characters in user and password are written %40 for '@', %2F for '/', %3A for ':'"
            )
        found.append(Address(match["v6"] or match["name"], port))
    return tuple(found)


def _with_path(settings: Settings, path: str) -> Settings:
    parts = [unquote(part) for part in path.split("/")] if path else []
    if parts and not parts[-1]:
        parts.pop()
    if settings.topology == CLUSTER:
        if parts not in ([], ["0"]):
            raise StoreRefused(f"{settings}: a Cluster has no databases, so nothing follows '/'")
        return settings
    if settings.topology == SENTINEL:
        if not parts or not parts[0]:
            raise StoreRefused(
                f"{settings}: the name of the service is missing: "
                "redis+sentinel://host:port,host:port/service"
            )
        settings = replace(settings, service=parts.pop(0))
    if not parts:
        return settings
    if len(parts) > 1 or not re.fullmatch("[0-9]{1,9}", parts[0]):
        raise StoreRefused(f"{settings}: the database, what follows the last '/', is a number")
    return replace(settings, db=int(parts[0]))


# --- options ----------------------------------------------------------------------------------


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"is a whole number from {low} to {high}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?", text) or not 0.1 <= float(text) <= 60:
        raise ValueError("is a number of seconds from 0.1 to 60")
    return float(text)


def _prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise ValueError(
            "has up to 64 letters, digits, '.', '_', ':' and '-', and begins with one of the first"
        )
    return text


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("is yes or no")
    return text == "yes"


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError("is the path of a file, which there is not")
    return text


_OPTIONS_OF_TLS: dict[str, Callable[[str], Any]] = {
    "ca": _file,
    "cert": _file,
    "key": _file,
    "check_hostname": _yes_or_no,
}
_OPTIONS: dict[str, Callable[[str], Any]] = {
    "prefix": _prefix,
    "partitions": _whole(1, _MOST_PARTITIONS),
    "timeout": _seconds,
    "wait_replicas": _whole(1, 5),
    "sentinel_user": str,
    "sentinel_password": str,
    **_OPTIONS_OF_TLS,
}
_OPTIONS_OF = {
    "partitions": CLUSTER,
    "sentinel_user": SENTINEL,
    "sentinel_password": SENTINEL,
}


def _with_options(settings: Settings, query: str) -> Settings:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise StoreRefused(f"{settings}: options are written ?name=value&name=value") from None
    found: dict[str, Any] = {}
    for name, text in pairs:
        if name not in _OPTIONS:
            known = ", ".join(_OPTIONS)
            raise StoreRefused(f"{settings}: {name!r} is no option of this store; known: {known}")
        if name in found or not text:
            raise StoreRefused(f"{settings}: option {name!r} needs one value")
        if name in _OPTIONS_OF_TLS and settings.tls is None:
            raise StoreRefused(f"{settings}: option {name!r} is for TLS: write rediss…://")
        if settings.topology != _OPTIONS_OF.get(name, settings.topology):
            raise StoreRefused(f"{settings}: option {name!r} is for redis+{_OPTIONS_OF[name]}://")
        try:
            found[name] = _OPTIONS[name](text)
        except ValueError as error:
            raise StoreRefused(f"{settings}: option {name!r} {error}") from None
    tls = {name: found.pop(name) for name in _OPTIONS_OF_TLS if name in found}
    if settings.tls is not None:
        _configure_tls(settings, settings.tls, tls)
    return replace(settings, **found)


def _configure_tls(settings: Settings, context: ssl.SSLContext, options: dict[str, Any]) -> None:
    context.check_hostname = options.get("check_hostname", True)
    try:
        if "ca" in options:
            context.load_verify_locations(options["ca"])
        if "cert" in options:
            context.load_cert_chain(options["cert"], options.get("key"))
        elif "key" in options:
            raise StoreRefused(f"{settings}: option 'key' goes with a 'cert'")
    except (OSError, ssl.SSLError) as error:
        raise StoreRefused(f"{settings}: options {', '.join(options)}: {error}") from None
