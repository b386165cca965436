"""The databases that brokers share, as a test meets them that is about any of them.

The driver is the same over each. What differs is how another program, an operator or a crash gets
in its way, and that is here, for a test that has a driver on its own loop.
"""

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from enum import Enum, auto
from types import ModuleType
from typing import Any, Self
from urllib.parse import urlsplit

import asyncmy
import asyncpg

from tests.support.servers.mariadb import MariaDBServer, login_of
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.process import suspend
from tests.support.stores import open_store
from towline_broker.drivers.registry import create_driver
from towline_broker.drivers.sql.mysql import news
from towline_broker.drivers.sql.mysql.session import MySQLSession
from towline_broker.drivers.sql.postgresql import notifications
from towline_broker.drivers.sql.postgresql.session import PostgresSession
from towline_broker.drivers.sql.shared.driver import SharedSqlDriver
from towline_broker.testing.heard import Heard

#: Runs a statement over a connection of another program and returns its rows.
Execute = Callable[[str], Awaitable[list[Any]]]


def opened(url: str, heard: Heard | None = None) -> AbstractAsyncContextManager[SharedSqlDriver]:
    driver = create_driver(url)
    assert isinstance(driver, SharedSqlDriver)
    return open_store(driver, heard)


class GivenUp(Enum):
    """Why a database gives a transaction up that is to be played again."""

    DEADLOCK = auto()
    #: PostgreSQL: no serial order. MariaDB: a lock was waited for in vain.
    CONFLICT = auto()


_SQLSTATES = {GivenUp.DEADLOCK: "40P01", GivenUp.CONFLICT: "40001"}
_ERROR_NUMBERS = {GivenUp.DEADLOCK: 1213, GivenUp.CONFLICT: 1205}


class Database(ABC):
    #: Where the driver keeps how long it waits before it connects anew to hear of other brokers.
    reconnect: tuple[ModuleType, str]
    #: The driver's connections.
    session: type[PostgresSession] | type[MySQLSession]
    #: In a transaction of another program: of two in a deadlock, the other one is given up.
    wins_deadlocks: str
    #: How a COMMIT looks on the wire.
    commit: str

    def __init__(self, server: PostgresServer | MariaDBServer) -> None:
        self.server = server

    def new_store(self) -> str:
        """The url of a database of its own."""
        return self.server.create_database()

    @contextmanager
    def with_a_server_of_its_own(self) -> Iterator[Self]:
        """For a test that kills it: one that syncs what it commits."""
        with type(self.server)(durable=True) as server:
            yield type(self)(server)

    @contextmanager
    def hanging(self, url: str) -> Iterator[None]:
        """Connections stay, and nothing is answered."""
        sessions = self._session_processes(url)
        self.server.pause()
        suspend(sessions)
        try:
            yield
        finally:
            self.server.resume()
            _signal(sessions, signal.SIGCONT)

    @abstractmethod
    def another_program(self, url: str) -> AbstractAsyncContextManager[Execute]:
        """Connected to the database of a store."""

    @abstractmethod
    def end_sessions(self, url: str) -> None:
        """As an operator does it: all that are connected to the database."""

    @abstractmethod
    async def lock_waits(self, execute: Execute) -> bool:
        """Somebody waits for a lock."""

    @abstractmethod
    async def give_up(self, session: Any, why: GivenUp) -> None:
        """The database gives up the transaction of this connection of the driver."""

    def _session_processes(self, url: str) -> list[int]:
        """Of the server, besides its own."""
        return []


class PostgreSQL(Database):
    reconnect = (notifications, "_RECONNECT")
    session = PostgresSession
    # Whoever notices first gives up.
    wins_deadlocks = "SET LOCAL deadlock_timeout = '30s'"
    commit = "COMMIT\0"

    @asynccontextmanager
    async def another_program(self, url: str) -> AsyncIterator[Execute]:
        connection = await asyncpg.connect(url.partition("?")[0])
        try:
            yield connection.fetch
        finally:
            await connection.close()

    def end_sessions(self, url: str) -> None:
        self.server.execute(f"SELECT count(pg_terminate_backend(pid)) {_sessions_of(url)}")

    async def lock_waits(self, execute: Execute) -> bool:
        return bool(await execute("SELECT 1 FROM pg_locks WHERE NOT granted"))

    async def give_up(self, session: PostgresSession, why: GivenUp) -> None:
        raising = f"RAISE EXCEPTION 'in the way' USING ERRCODE = '{_SQLSTATES[why]}'"
        await session._connection.execute(f"DO $$ BEGIN {raising}; END $$")

    def _session_processes(self, url: str) -> list[int]:
        return [int(pid) for pid in self.server.execute(f"SELECT pid {_sessions_of(url)}").split()]


class MariaDB(Database):
    reconnect = (news, "RECONNECT")
    session = MySQLSession
    # The transaction that has changed less is given up.
    wins_deadlocks = "INSERT INTO towline_ticks (id) SELECT seq FROM seq_1000_to_2000"
    commit = "\x07\x00\x00\x00\x03COMMIT"

    @asynccontextmanager
    async def another_program(self, url: str) -> AsyncIterator[Execute]:
        connection = await asyncmy.connect(**login_of(url), autocommit=True)

        async def execute(sql: str) -> list[Any]:
            cursor = connection.cursor()
            await cursor.execute(sql)
            return list(await cursor.fetchall())

        try:
            yield execute
        finally:
            connection.close()

    def end_sessions(self, url: str) -> None:
        ids = self.server.execute(
            f"SELECT id FROM information_schema.PROCESSLIST WHERE db = '{_name(url)}'"
        )
        for number in ids.split():
            # One may have ended by itself meanwhile.
            with suppress(AssertionError):
                self.server.execute(f"KILL {number}")

    async def lock_waits(self, execute: Execute) -> bool:
        # (INNODB_TRX is not renewed while somebody looks at it all the time.)
        ((_, waiting),) = await execute("SHOW STATUS LIKE 'Innodb_row_lock_current_waits'")
        return bool(waiting != "0")

    async def give_up(self, session: MySQLSession, why: GivenUp) -> None:
        await session.run(f"SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = {_ERROR_NUMBERS[why]}")


def _name(url: str) -> str:
    return urlsplit(url).path[1:]


def _sessions_of(url: str) -> str:
    return f"FROM pg_stat_activity WHERE datname = '{_name(url)}'"


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
