"""Whether a store holds together: each kind by its own rules."""

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from towline_broker.archive import stores
from towline_broker.archive.importing import MARK
from towline_broker.domain.errors import NotSupported, StoreRefused
from towline_broker.domain.words import many
from towline_broker.drivers.findings import Finding, Report
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import check_kind

#: What to do about a queue that is sealed.
_IMPORT = (
    "once it was cut off: give the same import again, which goes on; or open the queue with what "
    "it holds, by towline-broker import --abandon"
)
_MOVE = (
    "once it was cut off: towline-broker move QUEUE --to STORE goes on, and --undo brings back "
    "what has gone"
)


def check(url: str) -> Report:
    """Changes nothing. Raises StoreRefused, StoreUnavailable, OSError."""
    return _with_sealed(_check(url))


def _with_sealed(report: Report) -> Report:
    return replace(report, findings=[*report.findings, *_unfinished(report.sealed)])


def _unfinished(sealed: Mapping[str, str]) -> Iterator[Finding]:
    """A queue that is not open to workers, whether what seals it is at work or was cut off."""
    for queue, to in sealed.items():
        imports = to.startswith(MARK)
        what = "an import" if imports else f"a move to store {to}"
        yield Finding(
            f"queue {queue} gives workers nothing until {what} is finished",
            _IMPORT if imports else _MOVE,
        )


def _check(url: str) -> Report:
    kind, place = check_kind(url), stores.place_of(url)
    if place is None:
        return asyncio.run(_check_server(kind, url))
    stores.need_file(place)
    if kind == "file":
        from towline_broker.drivers.file.checking import check as check_file

        return check_file(place)
    from towline_broker.drivers.sql.sqlite.checking import check as check_sqlite

    with _readable(place):
        return check_sqlite(place)


@contextmanager
def _readable(place: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreRefused(f"{place} cannot be read: {error}") from error


async def _check_server(kind: str, url: str) -> Report:
    await stores.need(url)
    # The libraries of databases take a while to load, and other stores need none.
    from towline_broker.drivers.sql.administration import tables_of

    tables = tables_of(url)
    if tables is not None:
        return await tables.check()
    async with stores.opened(url) as store:
        if kind.startswith("redis"):
            from towline_broker.drivers.redis.checking import check as check_redis
            from towline_broker.drivers.redis.driver import RedisDriver

            if isinstance(store.driver, RedisDriver):
                return await check_redis(store.driver)
        return await _reached(store.driver)


async def _reached(driver: Driver) -> Report:
    """Of a store that tells no more: it answers, and these are its counts."""
    queues = many(len(await driver.queues()), "queue")
    counts = [row.depth for row in await driver.counts()]
    live, dead = sum(depth.live for depth in counts), sum(depth.dead for depth in counts)
    return Report(f"{queues}, {many(live, 'live job')} and {dead:,} dead by its counts")


def repair(url: str) -> Report:
    """Puts right what can be without losing anything. Raises NotSupported, as check does, and
    StoreRefused if a broker uses the store."""
    kind, place = check_kind(url), stores.place_of(url)
    if place is None or kind != "sqlite":
        way_out = (
            "opening it cuts off what was not finished; other damage needs a backup"
            if kind == "file"
            else "export the jobs and import them into a new store, which makes all else anew"
        )
        raise NotSupported(kind, "repairs in place", way_out)
    stores.need_file(place)
    from towline_broker.drivers.sql.sqlite.checking import repair as repair_sqlite

    with _readable(place):
        return _with_sealed(repair_sqlite(place))
