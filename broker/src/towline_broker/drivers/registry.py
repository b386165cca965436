"""From the url of a store to its driver."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from urllib.parse import parse_qsl, unquote

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.urls import shown_url

#: Third parties add a driver by an entry point of this group: its name is the url's scheme, its
#: object takes the url and returns the driver, raising StoreRefused for a url it cannot use.
ENTRY_POINTS = "towline_broker.drivers"

#: Scheme to module and function. Loaded when asked for: a memory store needs no SQL library.
BUILT_IN = {
    "memory": ("towline_broker.drivers.memory", "open_memory"),
    "file": ("towline_broker.drivers.file", "open_file"),
    **dict.fromkeys(
        (
            *("redis", "redis+cluster", "redis+sentinel"),
            *("rediss", "rediss+cluster", "rediss+sentinel"),
        ),
        ("towline_broker.drivers.redis", "open_redis"),
    ),
    **dict.fromkeys(("mysql", "mariadb"), ("towline_broker.drivers.sql.mysql", "open_mysql")),
    **dict.fromkeys(
        ("postgresql", "postgres"),
        ("towline_broker.drivers.sql.postgresql", "open_postgresql"),
    ),
    "sqlite": ("towline_broker.drivers.sql", "open_sqlite"),
    "sqs": ("towline_broker.drivers.sqs", "open_sqs"),
}

#: Packages that the broker runs without until a store needs them, each with the extra that brings
#: it.
EXTRAS = {"asyncmy": "mysql", "asyncpg": "postgresql", "boto3": "sqs", "redis": "redis"}

Factory = Callable[[str], Driver]


def create_driver(url: str) -> Driver:
    """The driver for a store, not yet opened.

    Raises StoreRefused, with the way out, if no driver knows the scheme or its driver cannot use
    the url.
    """
    scheme = check_kind(url)
    with packages_for(scheme):
        return _factory(scheme)(url)


@contextmanager
def packages_for(scheme: str) -> Iterator[None]:
    """Raises StoreRefused for a package that is not installed and comes with an extra of ours."""
    try:
        yield
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise StoreRefused(
            f"a store of the kind {scheme}: needs the package {error.name}, which is not "
            f"installed: pip install 'towline-broker[{extra}]'"
        ) from None


def check_kind(url: str) -> str:
    """The scheme of a url, in small letters.

    Raises StoreRefused if no driver knows it.
    """
    scheme, colon, _ = url.partition(":")
    if not colon or not scheme:
        raise StoreRefused(f"{shown_url(url)!r} is not the url of a store; {_known()}")
    if scheme.lower() not in _schemes():
        raise StoreRefused(
            f"{shown_url(url)!r}: no driver for {scheme.lower() + ':'!r} is installed; {_known()}"
        )
    return scheme.lower()


def _factory(scheme: str) -> Factory:
    if scheme in BUILT_IN:
        module, name = BUILT_IN[scheme]
        factory: Factory = getattr(import_module(module), name)
        return factory
    (entry_point, *_) = entry_points(group=ENTRY_POINTS, name=scheme)
    loaded: Factory = entry_point.load()
    return loaded


def _schemes() -> set[str]:
    return {*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINTS))}


def _known() -> str:
    return "known are " + ", ".join(f"{scheme}:" for scheme in sorted(_schemes()))


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """``scheme:place?option=value``, taken apart; ``place`` is what lies between, unquoted."""

    scheme: str
    place: str
    options: dict[str, str]


def parse_url(url: str, options: Sequence[str] = ()) -> StoreUrl:
    """Takes apart the url of a store that knows these options.

    Raises StoreRefused for an option that it does not know, that is given twice or has no value.
    """
    shown = repr(shown_url(url))
    scheme, _, rest = url.partition(":")
    place, _, query = rest.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise StoreRefused(f"{shown}: options are written ?name=value&name=value") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in options:
            known = f"known are {', '.join(options)}" if options else "it has none"
            raise StoreRefused(f"{shown}: {name!r} is no option of this store; {known}")
        if name in found or not value:
            raise StoreRefused(f"{shown}: option {name!r} needs one value")
        found[name] = value
    return StoreUrl(scheme.lower(), unquote(place), found)
