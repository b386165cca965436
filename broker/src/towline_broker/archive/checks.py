"""Whether a store holds together: each kind by its own rules."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from towline_broker.archive import stores
from towline_broker.domain.errors import NotSupported, StoreRefused
from towline_broker.drivers.findings import Report
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import check_kind


def check(url: str) -> Report:
    """Changes nothing. Raises StoreRefused, StoreUnavailable, OSError."""
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
    queues = len(await driver.queues())
    counts = [row.depth for row in await driver.counts()]
    live, dead = sum(depth.live for depth in counts), sum(depth.dead for depth in counts)
    return Report(f"{queues} queues, {live:,} live jobs and {dead:,} dead ones by its counts")


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
        return repair_sqlite(place)
