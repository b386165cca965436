"""Each store: there, within reach, durable, and in time."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

from towline_broker.archive.stores import EMBEDDED, opened, place_of
from towline_broker.doctor import disks
from towline_broker.doctor.findings import Finding, ok, problem, warning
from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.domain.time import SECOND, to_seconds
from towline_broker.drivers.interface import Capabilities, Durability
from towline_broker.drivers.registry import check_kind
from towline_broker.drivers.urls import shown_url

#: Seconds for a server to be reached and asked.
PATIENCE = 15.0
#: A difference of clocks that is worth a word, and the seconds that a question should take.
SKEW, SLOW = 1 * SECOND, 0.05
QUESTIONS = 5


#: What makes a server keep what it has answered, by the name of the kind of store.
_DURABLE = {
    "postgresql": "fsync = on and synchronous_commit = on in its configuration",
    "mysql": "innodb_flush_log_at_trx_commit = 1 and sync_binlog = 1 in its configuration",
    "redis": "appendonly yes and appendfsync always in its configuration, if no job may be lost",
}


async def look_at(name: str, url: str) -> AsyncIterator[Finding]:
    about = f"store {name}"
    try:
        kind = check_kind(url)
        if kind == "memory":
            yield warning(
                about, "memory: jobs end with the broker", "sqlite:/// or another, for lasting jobs"
            )
        elif kind in EMBEDDED:
            for finding in await _embedded(about, url):
                yield finding
        else:
            async with asyncio.timeout(PATIENCE):
                found = await _server(about, url)
            for finding in found:
                yield finding
    except TimeoutError:
        yield problem(about, f"{shown_url(url)}: no answer in {PATIENCE:g} s", "see its own log")
    except StoreUnavailable as error:
        yield problem(about, str(error), "start it, or name it rightly; brokers wait for it")
    except StoreRefused as error:
        yield problem(about, str(error), "do as it says, or name another store")


async def _embedded(about: str, url: str) -> list[Finding]:
    """Not opened: that would make it, or mend it, or disturb the broker that owns it."""
    place = place_of(url)
    if place is None:
        return []
    there = "there" if place.exists() else "is made at the first start"
    found = [ok(about, f"{shown_url(url)}: {there}")]
    closed = _closed_to_us(place)
    if closed is not None:
        owner = "it belongs to whoever made it: give it to the user of the broker (chown)"
        found = [problem(about, f"{closed} cannot be read and written by this user", owner)]
    else:
        await _check_tables(url, place)
    return [*found, *disks.look_at(about, place.parent, _kept_free(url))]


def _kept_free(url: str) -> int:
    from towline_broker.drivers.file import url as file
    from towline_broker.drivers.sql.sqlite import url as sqlite

    found = sqlite.parse(url) if check_kind(url) == "sqlite" else file.parse(url)
    return found.min_free_bytes


def _closed_to_us(place: Path) -> Path | None:
    """A file of the store that a broker of this user could not open."""
    files = [place, *place.parent.glob(f"{place.name}[-.]*")]
    files += place.iterdir() if place.is_dir() and os.access(place, os.R_OK | os.X_OK) else ()
    return next(
        (each for each in files if each.exists() and not os.access(each, os.R_OK | os.W_OK)), None
    )


async def _check_tables(url: str, place: Path) -> None:
    """Raises StoreRefused if they are of a version that this broker would not take."""
    if check_kind(url) == "sqlite":
        from towline_broker.drivers.sql import administration, versions
        from towline_broker.drivers.sql.sqlite.url import parse

        tables = administration.tables_of(url)
        version = None if tables is None else await tables.version()
        older = version is not None and version < versions.CURRENT
        if version is not None and not (older and parse(url).upgrade):
            versions.check(str(place), version)


async def _server(about: str, url: str) -> list[Finding]:
    # The libraries of databases take a while to load, and other stores need none.
    from towline_broker.drivers.sql.administration import tables_of

    tables = tables_of(url)
    if tables is not None and await tables.version() is None:
        made = "within reach; its tables are made at the first start"
        return [ok(about, f"{shown_url(url)}: {made}")]
    async with opened(url) as store:
        taken = []
        for _ in range(QUESTIONS):
            began = time.perf_counter()
            await store.driver.queues()
            taken.append(time.perf_counter() - began)
        return [
            _promise(about, url, store.driver.capabilities),
            _clock(about, store.clock.now()),
            _speed(about, median(taken)),
        ]


def _promise(about: str, url: str, promise: Capabilities) -> Finding:
    text = f"{shown_url(url)}: within reach, durability {promise.durability.name.lower()}"
    if promise.durability_note:
        text += f": {promise.durability_note}"
    if promise.durability is Durability.DURABLE:
        return ok(about, text)
    return warning(about, text, _DURABLE.get(promise.name, "take a store that is durable"))


def _clock(about: str, now: int) -> Finding:
    ahead = now - time.time_ns() // 1_000
    if abs(ahead) <= SKEW:
        return ok(about, "its clock agrees with that of this machine")
    direction = "ahead of" if ahead > 0 else "behind"
    return warning(
        about,
        f"its clock is {to_seconds(abs(ahead)):.1f} s {direction} that of this machine",
        "brokers go by the store's; but a time that a producer gives (run_at) is meant by its own: "
        "keep both in step",
    )


def _speed(about: str, seconds: float) -> Finding:
    took = f"a question is answered in {seconds * 1e3:.1f} ms"
    if seconds > SLOW:
        return warning(about, took, "run the broker nearer to its store: each call waits for it")
    return ok(about, took)
