"""Stores on one PostgreSQL server, drivers over them, and a proxy that cuts connections."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from itertools import count
from urllib.parse import urlsplit

from tests.support.servers.postgres import PostgresServer
from towline_broker.domain.jobs import Leased, NewJob
from towline_broker.domain.time import HOUR, MINUTE, Micros
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    Driver,
    PushBatch,
    PushResult,
    ReserveRequest,
    Settled,
)
from towline_broker.drivers.sql.postgresql.driver import open_postgresql
from towline_broker.drivers.sql.shared.driver import SharedSqlDriver
from towline_broker.testing.factories import START
from towline_broker.testing.store import Heard

_grants = count(1)


def new_store(server: PostgresServer, *options: str) -> str:
    """The url of a database of its own."""
    return "?".join([server.create_database(), "&".join(options)]).rstrip("?")


def with_options(url: str, *options: str) -> str:
    return url + ("&" if "?" in url else "?") + "&".join(options)


@asynccontextmanager
async def opened(url: str, heard: Heard | None = None) -> AsyncIterator[SharedSqlDriver]:
    driver = open_postgresql(url)
    await driver.open(START, heard or Heard())
    try:
        yield driver
    finally:
        await driver.close()


async def push(driver: Driver, *jobs: NewJob, now: Micros = START) -> list[PushResult]:
    return await driver.push(PushBatch(jobs, now))


async def reserve(driver: Driver, count: int, *queues: str, now: Micros = START) -> list[Leased]:
    grant = f"grant-{next(_grants)}"
    return await driver.reserve(ReserveRequest(queues or ("q",), count, MINUTE, grant, now))


async def ack(driver: Driver, leased: Sequence[Leased], now: Micros = START) -> list[Settled]:
    return await driver.ack(AckBatch([AckItem(one.ref) for one in leased], now, now + HOUR))


class Cut(Enum):
    #: The server never hears of the COMMIT.
    BEFORE_COMMIT = auto()
    #: The server has committed, and its reply is lost.
    AFTER_COMMIT = auto()


class Proxy:
    """Between a driver and the server. Cuts a connection at the next COMMIT once it is armed."""

    #: How a COMMIT looks.
    commit = b"COMMIT\0"

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._rest = f"{parts.username}@{{}}{parts.path}?sslmode=disable"
        self._tasks: set[asyncio.Task[None]] = set()
        self._armed: Cut | None = None
        self._away = False
        self.cuts = 0
        #: Connections that were not made because it was away.
        self.refused = 0

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return "postgresql://" + self._rest.format(f"{host}:{port}")

    def cut_next(self, cut: Cut) -> None:
        self._armed = cut

    def leave(self) -> None:
        """Ends every connection and makes no new one."""
        self._away = True
        for task in self._tasks:
            task.cancel()

    def come_back(self) -> None:
        self._away = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            self.refused += 1
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A server of streams takes it ill if its task ends by being cancelled.
        with suppress(OSError, asyncio.CancelledError):
            await self._pass_on(reader, writer)
        await _close(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        replies = asyncio.create_task(_copy(up_reader, writer))
        try:
            while data := await reader.read(65_536):
                if self._armed is not None and self.commit in data:
                    await self._cut(data, up_reader, up_writer, replies)
                    break
                up_writer.write(data)
                await up_writer.drain()
        finally:
            replies.cancel()
            await _close(up_writer)

    async def _cut(
        self,
        data: bytes,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
        replies: "asyncio.Task[None]",
    ) -> None:
        cut, self._armed = self._armed, None
        self.cuts += 1
        replies.cancel()
        await asyncio.gather(replies, return_exceptions=True)
        if cut is Cut.AFTER_COMMIT:
            up_writer.write(data)
            await up_writer.drain()
            await up_reader.read(65_536)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()
