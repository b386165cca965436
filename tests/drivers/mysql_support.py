"""Stores on one MariaDB server, drivers over them, and a proxy that cuts connections."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from asyncmy import connect
from asyncmy.connection import Connection

from tests.drivers.postgresql_support import Proxy
from towline_broker.drivers.sql.mysql.driver import open_mysql
from towline_broker.drivers.sql.shared.driver import SharedSqlDriver
from towline_broker.testing.factories import START
from towline_broker.testing.store import Heard


@asynccontextmanager
async def opened(url: str, heard: Heard | None = None) -> AsyncIterator[SharedSqlDriver]:
    driver = open_mysql(url)
    await driver.open(START, heard or Heard())
    try:
        yield driver
    finally:
        await driver.close()


@asynccontextmanager
async def bare(url: str) -> AsyncIterator[Connection]:
    """A connection of another program."""
    parts = urlsplit(url)
    connection = await connect(
        host=parts.hostname,
        port=parts.port or 0,
        user=parts.username,
        password=parts.password or "",
        database=parts.path[1:],
        autocommit=True,
    )
    try:
        yield connection
    finally:
        connection.close()


async def rows(connection: Connection, sql: str) -> list[tuple[object, ...]]:
    cursor = connection.cursor()
    await cursor.execute(sql)
    return list(await cursor.fetchall())


class MySQLProxy(Proxy):
    commit = b"\x07\x00\x00\x00\x03COMMIT"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        parts = urlsplit(url)
        self._rest = f"{parts.username}:{parts.password}@{{}}{parts.path}"

    async def __aenter__(self) -> "MySQLProxy":
        await super().__aenter__()
        return self

    @property
    def url(self) -> str:
        return super().url.replace("postgresql:", "mysql:", 1)
