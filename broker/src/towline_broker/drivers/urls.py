"""Urls of stores as they may be told: in logs, errors and to whoever looks at the broker.

A url that is malformed is told, too, and may hold a secret where none belongs. So what is shown is
what is known to be none, and all else is left out.
"""

import re
from urllib.parse import unquote

_HIDDEN = "***"
#: Options whose values are shown; of others, which may hold anything, the name.
_SHOWN = frozenset(
    {
        *("lanes", "readers", "timeout", "upgrade", "check", "fifo", "prefix", "partitions"),
        *("min_free_bytes", "segment_bytes", "max_bytes", "wait_replicas", "region", "endpoint"),
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "ca", "cert", "key", "check_hostname"),
        *("host", "port", "dbname", "user", "service", "target_session_attrs", "search_path"),
        *("unix_socket", "sentinel_user", "ssl_min_protocol_version", "ssl_max_protocol_version"),
    }
)
_OPTIONS = re.compile(r"\?(?=[A-Za-z_][\w.-]*=)", re.ASCII)
_SCHEME = re.compile(r"^[^:/?#@]*(?::?//+|:(?=[^@]*(?::|%3a).*(?:@|%40)))", re.ASCII | re.I | re.S)
#: Where a file stands: a : and an @ are a part of its name.
_PATH = re.compile(r"(sqlite|file):///", re.IGNORECASE)
#: The end of user and password. Those that hold a / ? # or @ as it is make most urls useless, but
#: must not be told for that.
_AT = re.compile(r".*(@|%40)", re.IGNORECASE | re.DOTALL)
_COLON = re.compile(r":|%3a", re.IGNORECASE)
#: A host, and where a port belongs what is none: a password, whose @ is missing.
_NO_PORT = re.compile(r"^([^/?#,\[\]:]*:)(?!\d*(?:[/?#,]|$)).*", re.DOTALL)


def shown_url(url: str) -> str:
    """Without its passwords, and without whatever else may be secret."""
    found = _OPTIONS.search(url)
    place, query = (url, None) if found is None else (url[: found.start()], url[found.end() :])
    shown = _shown_place(place)
    return shown if query is None else f"{shown}?{'&'.join(map(_shown_option, query.split('&')))}"


def _shown_place(place: str) -> str:
    scheme = None if _PATH.match(place) else _SCHEME.match(place)
    head, rest = (scheme[0], place[scheme.end() :]) if scheme else ("", place)
    if not _PATH.match(place):
        rest = _without_password(rest, head)
    # What follows and is no option.
    before, mark, _ = rest.partition("?")
    return head + before + (mark and mark + _HIDDEN)


def _without_password(rest: str, head: str) -> str:
    """``rest`` is what follows the scheme, which is empty if there is none."""
    at = _AT.match(rest)
    if at is None:
        return _NO_PORT.sub(rf"\g<1>{_HIDDEN}", rest) if head else rest
    colon = _COLON.search(rest, 0, at.start(1))
    if colon is not None:
        return rest[: colon.end()] + _HIDDEN + rest[at.start(1) :]
    # In Redis a password stands alone as often as not, and the driver refuses that.
    return _HIDDEN + rest[at.start(1) :] if head.strip().lower().startswith("redis") else rest


def _shown_option(option: str) -> str:
    name, equals, value = option.partition("=")
    if not equals:
        return _HIDDEN
    known = name in _SHOWN and "@" not in unquote(value)
    return option if known else f"{name}={_HIDDEN}"
