"""A store opened without a broker, for as long as a command takes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from towline_broker.core.clock import SystemClock
from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.owning import Owned
from towline_broker.drivers.registry import check_kind, create_driver
from towline_broker.drivers.urls import shown_url

#: Kinds of stores that are files of one machine.
EMBEDDED = frozenset({"file", "sqlite"})


@dataclass(frozen=True, slots=True)
class OpenStore:
    driver: Driver
    clock: SystemClock


class _Deaf:
    """Nobody waits for jobs here."""

    def jobs_ready(self, queue: str, count: int) -> None:
        """As the name says."""

    def jobs_coming(self, queue: str, count: int) -> None:
        """As the name says."""

    def jobs_ended(self, job_ids: Sequence[str]) -> None:
        """As the name says."""


@asynccontextmanager
async def opened(url: str, *, way_out: str = "") -> AsyncIterator[OpenStore]:
    """Raises StoreRefused and StoreUnavailable. ``way_out`` is told if a broker owns the store."""
    driver = create_driver(url)
    clock = SystemClock()
    try:
        seen = await driver.open(clock.now(), _Deaf())
    except Owned as owned:
        what = f"{owned.store} is in use by a broker (process {owned.holder})"
        raise StoreRefused(what + way_out) from None
    try:
        if driver.capabilities.shared:
            clock.begin_at(seen)
        else:
            clock.not_before(seen)
        yield OpenStore(driver, clock)
    finally:
        await driver.close()


def place_of(url: str) -> Path | None:
    """Where an embedded store is, or would be; None: it is a server's.

    Raises StoreRefused, also for a store that ends with its process.
    """
    kind = check_kind(url)
    if kind == "memory":
        raise StoreRefused(
            "a memory: store ends with its process, so there is nothing that a command could open"
        )
    if kind == "sqlite":
        from towline_broker.drivers.sql.sqlite.url import parse as parse_sqlite

        return parse_sqlite(url).path.resolve()
    if kind == "file":
        from towline_broker.drivers.file.url import parse as parse_file

        return parse_file(url).directory.resolve()
    return None


async def need(url: str) -> None:
    """Raises StoreRefused if there is no store: opening one would make it."""
    place = place_of(url)
    if place is not None:
        need_file(place)
        return
    # The libraries of databases take a while to load, and other stores need none.
    from towline_broker.drivers.sql.administration import tables_of

    tables = tables_of(url)
    if tables is not None and await tables.version() is None:
        raise StoreRefused(f"{shown_url(url)} holds no store: it has no tables of Towline")


def need_file(place: Path) -> None:
    """The same for an embedded store."""
    if not place.exists():
        raise StoreRefused(f"there is no store at {place}")
