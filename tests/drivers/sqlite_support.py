"""A SQLite store in a folder of the test, and looking into it."""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from tests.support.stores import open_store
from towline_broker.domain.time import Micros
from towline_broker.drivers.disk import free_bytes
from towline_broker.drivers.sql.sqlite.driver import SqliteDriver
from towline_broker.drivers.sql.sqlite.url import SqliteUrl
from towline_broker.drivers.sql.sqlite.writer import Writer
from towline_broker.testing.factories import START


def opened(
    path: Path, *, now: Micros = START, free: Callable[[Path], int] = free_bytes
) -> AbstractAsyncContextManager[SqliteDriver]:
    return open_store(SqliteDriver(SqliteUrl(path), free), now=now)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def writer_of(driver: SqliteDriver) -> Writer:
    assert driver._opened is not None
    return driver._opened.writer


def writing_connection(driver: SqliteDriver) -> sqlite3.Connection:
    return writer_of(driver)._sqlite
