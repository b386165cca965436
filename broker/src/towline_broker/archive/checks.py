"""Whether a store holds together: each kind by its own rules."""

import asyncio

from towline_broker.archive import stores
from towline_broker.domain.errors import NotSupported
from towline_broker.drivers.findings import Report
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import check_kind


async def check(url: str) -> Report:
    """Changes nothing. Raises StoreRefused, StoreUnavailable, OSError."""
    await stores.need(url)
    kind, place = check_kind(url), stores.place_of(url)
    if place is not None and kind == "file":
        from towline_broker.drivers.file.checking import check as check_file

        return await asyncio.to_thread(check_file, place)
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


async def repair(url: str) -> Report:
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
    await stores.need(url)
    from towline_broker.drivers.sql.sqlite.checking import repair as repair_sqlite

    return await asyncio.to_thread(repair_sqlite, place)
