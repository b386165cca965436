"""A connection to PostgreSQL, in the words of ``sql/shared/session.py``."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from asyncpg import Connection
from sqlalchemy.sql import Executable

from towline_broker.drivers.sql.postgresql.counters import Counters
from towline_broker.drivers.sql.postgresql.hot import PostgresHot
from towline_broker.drivers.sql.postgresql.statements import compiled, for_many, numbered, put
from towline_broker.drivers.sql.schema import jobs
from towline_broker.drivers.sql.shared.session import Outcome
from towline_broker.drivers.sql.tally import Tally
from towline_broker.drivers.sql.transaction import Row

_NUMBERS = "SELECT nextval('towline_sequence'), pg_current_xact_id()::text"
_TICKET = "SELECT pg_current_xact_id()::text"
#: After a failover the numbers of transactions go on from what the new primary knew, and after a
#: crash from what was synced: those of before mean nothing then. The statistics begin anew with
#: every recovery, also with one that the server goes through without ending.
_LIFE = (
    "concat_ws(',', left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),"
    " pg_postmaster_start_time(), (SELECT stats_reset FROM pg_stat_bgwriter))"
)
#: (Of a number that was never given, the server knows no status but an error.)
_OUTCOME = f"SELECT CASE WHEN {_LIFE} = $2 THEN pg_xact_status($1::text::xid8) END"
TIMELINE = f"SELECT {_LIFE}"
#: What one call of the sequence yields: numbers from its value on.
BLOCK = 1 << 17
_OUTCOMES = {
    "committed": Outcome.COMMITTED,
    "aborted": Outcome.ABORTED,
    "in progress": Outcome.UNDECIDED,
}


class PostgresSession:
    """``ticket``: the number of the transaction, and the life of the server that gave it."""

    def __init__(
        self, connection: "Connection[Any]", timeline: str, counters: Counters | None
    ) -> None:
        """``counters``: None for one that only looks."""
        self._connection = connection
        self._timeline = timeline
        self._counters = counters
        self.hot = PostgresHot(connection)
        self._changed = False
        self._number: str | None = None
        #: Of the sequence, taken in this transaction: the next, and the end.
        self._next = self._end = 0
        self.ticket: str | None = None

    @property
    def closed(self) -> bool:
        return self._connection.is_closed()

    async def begin(self) -> None:
        self._changed = False
        self._number = self.ticket = None
        self._next = self._end = 0
        await self._connection.execute("BEGIN")
        if self._counters is not None:
            await self._counters.begin()

    async def begin_snapshot(self) -> None:
        self._changed = False
        await self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    async def commit(self) -> None:
        if self._changed:
            if self._number is None:
                self._number = str(await self._connection.fetchval(_TICKET))
            self.ticket = f"{self._number} {self._timeline}"
        status = await self._connection.execute("COMMIT")
        if status != "COMMIT":  # of a transaction in which a statement has failed
            raise RuntimeError("the database has rolled back what it was told to commit")
        if self._counters is not None:
            self._counters.committed()

    async def rollback(self) -> None:
        await self._connection.execute("ROLLBACK")

    async def outcome(self, ticket: str) -> Outcome:
        number, _, life = ticket.partition(" ")
        status = await self._connection.fetchval(_OUTCOME, number, life)
        return _OUTCOMES.get(status, Outcome.UNKNOWN)

    async def close(self) -> None:
        self._connection.terminate()

    # --- statements ---

    async def rows(self, sql: str, *parameters: object) -> Sequence[Row]:
        return await self._connection.fetch(numbered(sql), *parameters)

    async def rows_of(self, sql: str, keys: Iterable[object], *parameters: object) -> Sequence[Row]:
        return await self.rows(sql, *parameters, list(keys))

    async def select(self, statement: Executable) -> Sequence[Row]:
        text, parameters = compiled(statement)
        return await self._connection.fetch(text, *parameters)

    async def locked(self, sql: str, *parameters: object) -> Sequence[Row]:
        return await self.rows(f"{sql} FOR UPDATE SKIP LOCKED", *parameters)

    async def locked_of(
        self, sql: str, keys: Iterable[object], *parameters: object
    ) -> Sequence[Row]:
        # In the order of the ids: an index is walked in its own order, whatever that of an array.
        return await self.rows_of(f"{sql} FOR UPDATE", keys, *parameters)

    async def select_locked(self, statement: sa.Select[Any]) -> Sequence[Row]:
        return await self.select(statement.with_for_update(skip_locked=True, of=jobs))

    async def change(self, sql: str, *parameters: object) -> int:
        self._changed = True
        status = await self._connection.execute(numbered(sql), *parameters)
        return int(status.rpartition(" ")[2])

    async def change_of(self, sql: str, keys: Iterable[object], *parameters: object) -> int:
        return await self.change(sql, *parameters, list(keys))

    async def change_many(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        self._changed = True
        if len(rows) == 1:
            await self.change(sql, *rows[0])
            return
        types = await self._types(sql)
        await self._connection.execute(for_many(sql, types), *zip(*rows, strict=True))

    async def put_many(self, table: sa.Table, rows: Sequence[tuple[object, ...]]) -> None:
        await self.change_many(put(table), rows)

    async def sequence(self, count: int) -> int:
        if count > BLOCK:
            raise ValueError(f"{count} consecutive numbers were asked for; there are {BLOCK}")
        if self._end - self._next < count:
            ((self._next, self._number),) = await self._connection.fetch(_NUMBERS)
            self._end = self._next + BLOCK
        first = self._next
        self._next += count
        return first

    async def count(self, tally: Tally) -> None:
        assert self._counters is not None  # noqa: S101 - who counts is one that changes
        self._changed = True
        self._number = await self._counters.add(tally)

    # --- ---

    async def _types(self, sql: str) -> tuple[str, ...]:
        """Of a statement's parameters."""
        found = _TYPES.get(sql)
        if found is None:
            statement = await self._connection.prepare(numbered(sql))
            found = tuple(type_.name for type_ in statement.get_parameters())
            _TYPES[sql] = found
        return found


#: The types of the parameters of each statement: all stores have the same tables.
_TYPES: dict[str, tuple[str, ...]] = {}
