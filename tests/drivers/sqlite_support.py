"""A SQLite store in a folder of the test, and a listener that remembers."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from towline_broker.domain.jobs import Leased, NewJob
from towline_broker.domain.time import HOUR, Micros
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    PushBatch,
    PushResult,
    ReserveRequest,
    Settled,
)
from towline_broker.drivers.sql.sqlite.driver import SqliteDriver
from towline_broker.drivers.sql.sqlite.url import SqliteUrl
from towline_broker.drivers.sql.sqlite.writer import Writer
from towline_broker.testing.factories import START
from towline_broker.testing.store import Heard

LEASE = 30_000_000


@asynccontextmanager
async def opened(
    path: Path, *, now: Micros = START, free_bytes: Callable[[Path], int] | None = None
) -> AsyncIterator[SqliteDriver]:
    url = SqliteUrl(path)
    driver = SqliteDriver(url) if free_bytes is None else SqliteDriver(url, free_bytes)
    await driver.open(now, Heard())
    try:
        yield driver
    finally:
        await driver.close()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def writer_of(driver: SqliteDriver) -> Writer:
    assert driver._opened is not None
    return driver._opened.writer


def writing_connection(driver: SqliteDriver) -> sqlite3.Connection:
    return writer_of(driver)._sqlite


async def push(driver: SqliteDriver, *jobs: NewJob, now: Micros = START) -> list[PushResult]:
    return await driver.push(PushBatch(jobs, now))


async def reserve(driver: SqliteDriver, count: int, grant: str = "grant") -> list[Leased]:
    return await driver.reserve(ReserveRequest(["q"], count, LEASE, grant, START))


async def ack(driver: SqliteDriver, leased: Sequence[Leased]) -> list[Settled]:
    items = [AckItem(one.ref) for one in leased]
    return await driver.ack(AckBatch(items, START, START + HOUR))
