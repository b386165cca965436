"""A connection to a SQLite file, and operations played on it."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.pool import NullPool
from sqlalchemy.sql import Executable

from towline_broker.domain.errors import StoreRefused
from towline_broker.domain.time import Micros
from towline_broker.drivers.sql.keys import KEYS, chunks, times_named
from towline_broker.drivers.sql.names import Names
from towline_broker.drivers.sql.sqlite import many
from towline_broker.drivers.sql.sqlite.held import HeldLeases
from towline_broker.drivers.sql.tally import Tally
from towline_broker.drivers.sql.transaction import Effects, Row

#: How long SQLite waits for another program's lock, in seconds.
_BUSY_TIMEOUT = 5.0
#: Most keys in one statement.
_MOST_KEYS = 1024
#: So ends what is changed by the numbers of jobs. Jobs of one push, and so mostly those of one
#: Reserve and of one Ack, have numbers that follow each other.
_OF_NUMBERS = f" seq IN {KEYS}"

#: WAL with FULL syncs the log at each commit. Checkpoints are the writer's business
#: (``writer.py``): the automatic ones keep their errors to themselves. Freed pages need no zeros
#: written over them.
_SETTINGS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -65536",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA secure_delete = OFF",
)


def connect(path: Path) -> sa.Connection:
    """A connection that begins and ends no transaction on its own.

    It may be used by any thread, one at a time. Raises StoreRefused where there can be no log.
    """

    def creator() -> sqlite3.Connection:
        return sqlite3.connect(
            path,
            timeout=_BUSY_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )

    engine = sa.create_engine("sqlite://", creator=creator, poolclass=NullPool)
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    if connection.exec_driver_sql("PRAGMA journal_mode = WAL").scalar_one() != "wal":
        connection.close()
        raise StoreRefused(
            f"{path}: SQLite cannot keep a write-ahead log there; put the store on a local disk"
        )
    for setting in _SETTINGS:
        connection.exec_driver_sql(setting)
    return connection


def driver_connection(connection: sa.Connection) -> sqlite3.Connection:
    """What SQLAlchemy's connection wraps."""
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def unused_bytes(connection: sa.Connection) -> int:
    """What the file of the store holds in pages that nothing uses any more."""
    sqlite = driver_connection(connection)
    (pages,) = sqlite.execute("PRAGMA freelist_count").fetchone()
    (page_size,) = sqlite.execute("PRAGMA page_size").fetchone()
    return int(pages * page_size)


NEXT_READY = "{} WHERE queue = ? AND state = 2 ORDER BY priority DESC, position LIMIT ?"


class Beginnings:
    """Every look begins at the beginning: what is gone leaves nothing behind in an index."""

    def since(self, index: str) -> Micros:
        return 0

    def reached(self, index: str, time: Micros | None) -> None:
        pass

    def appeared(self, index: str, time: Micros) -> None:
        pass


class ExactDepths:
    """They cost one look-up, so they are asked for each time."""

    def surely_below(self, limit: int, queue: str, pushed: int) -> bool:
        return False

    def read(self, queue: str, depth: int) -> None:
        pass


class SqliteReader:
    """The statements of ``transaction.Reader``. They never wait for an event loop."""

    heads = Beginnings()

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        # Prepared text goes to the client itself: SQLAlchemy costs more than a short statement.
        self._sqlite = driver_connection(connection)

    async def rows(self, sql: str, *parameters: object) -> Sequence[Row]:
        return self._sqlite.execute(sql, parameters).fetchall()

    async def rows_of(self, sql: str, keys: Iterable[object], *parameters: object) -> Sequence[Row]:
        found: list[Row] = []
        for chunk in chunks(keys, _MOST_KEYS):
            values = (*parameters, *chunk * times_named(sql))
            found += self._sqlite.execute(with_keys(sql, len(chunk)), values).fetchall()
        return found

    async def select(self, statement: Executable) -> Sequence[Row]:
        return self._connection.execute(statement).fetchall()


class SqliteTransaction(SqliteReader):
    """The statements of ``transaction.Transaction``, for one operation."""

    shared = False
    depths = ExactDepths()

    def __init__(
        self,
        connection: sa.Connection,
        names: Names,
        take: Callable[[int], int],
        held: HeldLeases,
    ) -> None:
        super().__init__(connection)
        self._held = held
        self.names = names
        self.tally = Tally()
        self.effects = Effects()
        self._take = take

    # Nobody else changes anything meanwhile.

    async def locked(self, sql: str, *parameters: object) -> Sequence[Row]:
        return await self.rows(sql, *parameters)

    async def locked_of(
        self, sql: str, keys: Iterable[object], *parameters: object
    ) -> Sequence[Row]:
        keys = list(keys)
        self._held.drop(keys)
        return await self.rows_of(sql, keys, *parameters)

    async def held(self, sql: str, ids: Sequence[str]) -> Sequence[Row]:
        found, missing = self._held.take(ids)
        if missing:
            found += await self.rows_of(sql, missing)
        return found

    def note_held(self, rows: Sequence[Row]) -> None:
        self._held.put(rows)

    async def select_locked(self, statement: sa.Select[Any]) -> Sequence[Row]:
        return await self.select(statement)

    async def next_ready(
        self, columns: str, queue: int, priorities: Sequence[int], limit: int
    ) -> Sequence[Row]:
        return await self.rows(NEXT_READY.format(columns), queue, limit)

    def left_ready(self, queue: str, rows: Sequence[Row]) -> None:
        """Nobody was kept from them."""

    async def change(self, sql: str, *parameters: object) -> int:
        return self._sqlite.execute(sql, parameters).rowcount

    async def change_of(self, sql: str, keys: Iterable[object], *parameters: object) -> int:
        if isinstance(keys, list) and sql.endswith(_OF_NUMBERS) and _follow_each_other(keys):
            values = (*parameters, keys[0], keys[-1])
            return self._sqlite.execute(_of_range(sql), values).rowcount
        met = 0
        for chunk in chunks(keys, _MOST_KEYS):
            values = (*parameters, *chunk * times_named(sql))
            met += self._sqlite.execute(with_keys(sql, len(chunk)), values).rowcount
        return met

    async def change_many(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        if not rows:
            return
        if not sql.startswith("INSERT"):
            self._sqlite.executemany(sql, rows)
            return
        for statement, parameters in many.statements(sql, rows):
            self._sqlite.execute(statement, parameters)

    async def put_many(self, table: sa.Table, rows: Sequence[tuple[object, ...]]) -> None:
        await self.change_many(_put(table), rows)

    async def sequence(self, count: int) -> int:
        return self._take(count)


@cache
def with_keys(sql: str, count: int) -> str:
    """The statement with room for so many keys."""
    return sql.replace(KEYS, f"({', '.join('?' * count)})")


def _follow_each_other(keys: list[Any]) -> bool:
    return len(keys) > 1 and keys == list(range(keys[0], keys[0] + len(keys)))


@cache
def _of_range(sql: str) -> str:
    """The statement about all rows from one number to another. SQLite walks over them, where it
    would sort a list of keys and look up each."""
    return sql.removesuffix(f"IN {KEYS}") + "BETWEEN ? AND ?"


@cache
def _put(table: sa.Table) -> str:
    names = [column.name for column in table.columns]
    values = ", ".join("?" * len(names))
    into = f"{table.name} ({', '.join(names)})"
    return f"INSERT OR REPLACE INTO {into} VALUES ({values})"  # noqa: S608 - constants
