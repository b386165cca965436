"""A connection to MySQL or MariaDB, in the words of ``sql/shared/session.py``."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from asyncmy import errors
from asyncmy.connection import Connection
from sqlalchemy.sql import Executable

from towline_broker.drivers.sql.keys import chunks, times_named
from towline_broker.drivers.sql.mysql import writers
from towline_broker.drivers.sql.mysql.statements import (
    MOST_KEYS,
    adapted,
    compiled,
    many,
    put,
    with_keys,
)
from towline_broker.drivers.sql.mysql.writers import Writer
from towline_broker.drivers.sql.shared.session import Outcome
from towline_broker.drivers.sql.tally import COUNTERS, Tally
from towline_broker.drivers.sql.transaction import Row

#: Numbers that one row of ``towline_ticks`` stands for.
BLOCK = 1 << 17
_TICK = "INSERT INTO towline_ticks () VALUES ()"
_UNTICK = "DELETE FROM towline_ticks WHERE id = ?"
_COUNT = (
    f"INSERT INTO towline_counters (kind, shard, {', '.join(COUNTERS)})"  # noqa: S608 - constants
    f" VALUES ({', '.join('?' * (len(COUNTERS) + 2))}) ON DUPLICATE KEY UPDATE "
    + ", ".join(f"{name} = {name} + VALUES({name})" for name in COUNTERS)
)
_SKIP = " FOR UPDATE SKIP LOCKED"
_WAIT = " ORDER BY seq FOR UPDATE"
#: Somebody holds the row: ER_LOCK_NOWAIT of MySQL, ER_LOCK_WAIT_TIMEOUT of MariaDB.
_HELD = frozenset({3572, 1205})
#: Rows of parameters in one statement, and about how many bytes of it.
_MOST_ROWS, _MOST_BYTES = 500, 1 << 20


class MySQLSession:
    """``ticket``: which writer's transaction it was (``writers.py``)."""

    hot = None

    def __init__(self, connection: Connection, timeout: float) -> None:
        """``timeout``: seconds for one statement."""
        self._connection = connection
        self._cursor = connection.cursor()
        self._timeout = timeout
        #: Of one that changes.
        self.writer: Writer | None = None
        self._changed = False
        #: Statements that wait for the last one before the COMMIT, to go with it.
        self._pending: list[str] = []
        #: Numbers taken in this transaction: the next, and the end.
        self._next = self._end = 0
        self.ticket: str | None = None

    @property
    def closed(self) -> bool:
        return not self._connection.connected

    @property
    def mariadb(self) -> bool:
        return is_mariadb(self._connection)

    async def run(self, statement: str) -> None:
        """One that makes or changes tables, as it stands."""
        await self._execute(statement)

    async def begin(self) -> None:
        self._changed = False
        self._pending = []
        self.ticket = None
        self._next = self._end = 0
        await self._execute("BEGIN")

    async def begin_snapshot(self) -> None:
        await self._execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    async def commit(self) -> None:
        if self._changed and self.ticket is None:
            await self._note()
        await self._execute("COMMIT")

    async def rollback(self) -> None:
        await self._execute("ROLLBACK")

    async def outcome(self, ticket: str) -> Outcome:
        shard, owner, serial = ticket.split(" ")
        try:
            rows = await self.rows(writers.ASK, int(shard))
        except errors.Error as error:
            if error.args and error.args[0] in _HELD:
                return Outcome.UNDECIDED
            raise
        if not rows or rows[0][0] != owner:
            return Outcome.UNKNOWN
        return Outcome.COMMITTED if rows[0][1] >= int(serial) else Outcome.ABORTED

    async def close(self) -> None:
        self._connection.close()

    # --- statements ---

    async def rows(self, sql: str, *parameters: object) -> Sequence[Row]:
        return await self._rows(adapted(sql), parameters)

    async def rows_of(self, sql: str, keys: Iterable[object], *parameters: object) -> Sequence[Row]:
        return await self._rows_of(sql, "", keys, parameters)

    async def select(self, statement: Executable) -> Sequence[Row]:
        return await self._rows(*compiled(statement))

    async def locked(self, sql: str, *parameters: object) -> Sequence[Row]:
        return await self._rows(adapted(sql) + _SKIP, parameters)

    async def locked_of(
        self, sql: str, keys: Iterable[object], *parameters: object
    ) -> Sequence[Row]:
        return await self._rows_of(sql, _WAIT, keys, parameters)

    async def select_locked(self, statement: sa.Select[Any]) -> Sequence[Row]:
        text, parameters = compiled(statement)
        return await self._rows(text + _SKIP, parameters)

    async def change(self, sql: str, *parameters: object) -> int:
        self._changed = True
        return await self._execute(adapted(sql), parameters)

    async def change_of(self, sql: str, keys: Iterable[object], *parameters: object) -> int:
        self._changed = True
        met = 0
        for chunk in chunks(keys, MOST_KEYS):
            text = with_keys(sql, len(chunk))
            met += await self._execute(text, (*parameters, *chunk * times_named(sql)))
        return met

    async def change_many(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        self._changed = True
        for part in _parts(rows):
            if len(part) == 1:
                # Prepared, and its bytes sent as they are.
                await self._execute(adapted(sql), part[0])
                continue
            await self._execute(self._of_many(sql, part))

    async def put_many(self, table: sa.Table, rows: Sequence[tuple[object, ...]]) -> None:
        await self.change_many(put(table), rows)

    async def sequence(self, count: int) -> int:
        if count > BLOCK:
            raise ValueError(f"{count} consecutive numbers were asked for; there are {BLOCK}")
        if self._end - self._next < count:
            await self.change(_TICK)
            tick = int(self._cursor.lastrowid)
            self._pending.append(self._cursor.mogrify(adapted(_UNTICK), (tick,)))
            self._next = tick * BLOCK
            self._end = self._next + BLOCK
        first = self._next
        self._next += count
        return first

    async def count(self, tally: Tally) -> None:
        assert self.writer is not None  # noqa: S101 - who counts is one that changes
        shard = self.writer.shard
        rows = [(kind, shard, *changes) for kind, changes in tally.changes.items() if any(changes)]
        self._changed = True
        self._pending += [self._of_many(_COUNT, part) for part in _parts(rows)]
        await self._note()

    # --- ---

    async def _note(self) -> None:
        """Writes down the number of the transaction, and what waited for that.

        It is answered before the COMMIT is sent: whoever asks for the outcome then finds the row
        locked for as long as the transaction is not over.
        """
        writer = self.writer
        if writer is None:
            return
        writer.serial += 1
        numbers = (writer.serial, writer.shard, writer.owner)
        self._pending.append(self._cursor.mogrify(adapted(writers.NOTE), numbers))
        statements, self._pending = self._pending, []
        await self._execute("; ".join(statements))
        for _ in statements[1:]:
            await self._next_result()
        self.ticket = writer.ticket

    def _of_many(self, sql: str, rows: Sequence[tuple[object, ...]]) -> str:
        """One statement for many rows of parameters."""
        head, first, further, tail = many(sql)
        values = tuple(value for row in rows for value in row)
        text: str = self._cursor.mogrify(head + first + further * (len(rows) - 1) + tail, values)
        return text

    async def _rows(self, text: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        await self._execute(text, parameters)
        return await self._cursor.fetchall()

    async def _rows_of(
        self, sql: str, ending: str, keys: Iterable[object], parameters: tuple[object, ...]
    ) -> Sequence[Row]:
        found: list[Row] = []
        for chunk in chunks(keys, MOST_KEYS):
            text = with_keys(sql, len(chunk)) + ending
            found += await self._rows(text, (*parameters, *chunk * times_named(sql)))
        return found

    async def _next_result(self) -> None:
        """Of several statements in one message: raises the error of the next one."""
        async with self._limited():
            await self._cursor.nextset()

    async def _execute(self, text: str, parameters: Sequence[object] | None = None) -> int:
        """Returns how many rows it met."""
        async with self._limited():
            met: int = await self._cursor.execute(text, parameters or None)
        return met

    @asynccontextmanager
    async def _limited(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError:
            # The answer may come yet: nothing else can be asked here.
            self._connection.close()
            raise


def is_mariadb(connection: Connection) -> bool:
    return "mariadb" in connection.get_server_info().lower()


def _parts(rows: Sequence[tuple[object, ...]]) -> Iterator[Sequence[tuple[object, ...]]]:
    """The rows in pieces that fit into statements."""
    start = size = 0
    for index, row in enumerate(rows):
        bytes_ = sum(len(value) for value in row if isinstance(value, bytes | str))
        if index > start and (size + bytes_ > _MOST_BYTES or index - start == _MOST_ROWS):
            yield rows[start:index]
            start, size = index, 0
        size += bytes_
    if start < len(rows):
        yield rows[start:]
