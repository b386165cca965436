"""What an operation runs in: a session's statements, and what the operation leaves behind besides
its rows."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.sql import Executable

from towline_broker.drivers.sql.names import MOST_LINES, Names
from towline_broker.drivers.sql.shared.hot import Claimed, Line
from towline_broker.drivers.sql.shared.memory import Memory
from towline_broker.drivers.sql.shared.ready import ONCE_MORE, Bound
from towline_broker.drivers.sql.shared.session import Session
from towline_broker.drivers.sql.tally import Tally
from towline_broker.drivers.sql.transaction import Effects, Heads, Row

#: To follow the columns of a claim. With the whole queue the index is walked from its beginning.
OF_LINE = (
    " WHERE queue = ? AND state = 2 AND priority = ? AND position >= ? ORDER BY position LIMIT ?"
)
OF_QUEUE = " WHERE queue = ? AND state = 2 ORDER BY priority DESC, position LIMIT ?"


class LookAgain(Protocol):
    def __call__(self, queue: int, pause: float) -> None:
        """READY jobs of the queue may have been passed over: look for them after so many
        seconds."""


class SharedReader:
    """See :class:`towline_broker.drivers.sql.transaction.Reader`."""

    def __init__(self, session: Session, heads: Heads) -> None:
        self._session = session
        self.heads = heads

    async def rows(self, sql: str, *parameters: object) -> Sequence[Row]:
        return await self._session.rows(sql, *parameters)

    async def rows_of(self, sql: str, keys: Iterable[object], *parameters: object) -> Sequence[Row]:
        wanted = list(keys)
        return await self._session.rows_of(sql, wanted, *parameters) if wanted else []

    async def select(self, statement: Executable) -> Sequence[Row]:
        return await self._session.select(statement)


class SharedTransaction(SharedReader):
    """See :class:`towline_broker.drivers.sql.transaction.Transaction`."""

    shared = True

    def __init__(
        self, session: Session, names: Names, memory: Memory, look_again: LookAgain
    ) -> None:
        super().__init__(session, memory.heads)
        self.depths = memory.depths
        self.names = names
        self.tally = Tally()
        self.effects = Effects()
        #: Something was changed: if the operation fails, the whole transaction must.
        self.changed = False
        self._lines = memory.lines
        self._look_again = look_again
        self._claimed: list[tuple[int, Sequence[Row]]] = []
        #: Of them, those that stay as they are.
        self._left: list[tuple[int, Sequence[Row]]] = []
        self._places: Bound | None = None

    def over(self) -> None:
        """The transaction was committed or rolled back."""
        if self._places is not None:
            self._lines.change_ends(self._places)
        # Not before: until then claims pass over what is locked, and take it for claimed.
        for queue, rows in self._left:
            self._lines.returned(queue, rows)

    def undo(self) -> None:
        """The transaction was rolled back."""
        for queue, rows in self._claimed:
            self._lines.returned(queue, rows)

    # --- jobs of which no other transaction may dispose ---

    async def locked(self, sql: str, *parameters: object) -> Sequence[Row]:
        return await self._session.locked(sql, *parameters)

    async def locked_of(
        self, sql: str, keys: Iterable[object], *parameters: object
    ) -> Sequence[Row]:
        wanted = list(keys)
        return await self._session.locked_of(sql, wanted, *parameters) if wanted else []

    async def held(self, sql: str, ids: Sequence[str]) -> Sequence[Row]:
        return await self.locked_of(sql, ids)

    def note_held(self, rows: Sequence[Row]) -> None:
        """Another broker may settle them."""

    async def select_locked(self, statement: sa.Select[Any]) -> Sequence[Row]:
        return await self._session.select_locked(statement)

    async def next_ready(
        self, columns: str, queue: int, priorities: Sequence[int], limit: int
    ) -> Sequence[Row]:
        lines = self._lines
        if 0 < len(priorities) <= MOST_LINES and not lines.overdue(queue):
            rows = await self._from_marks(columns, queue, priorities, limit)
            if len(rows) == limit:
                return rows
            pause = lines.pause(queue)
            if pause > 0:
                self._look_again(queue, pause)
                self._look_again(queue, ONCE_MORE)
                return rows
            # What was found so far is found again: a transaction passes over locks of others only.
        began = lines.now()
        with lines.look() as look:
            rows = await self._session.locked(columns + OF_QUEUE, queue, limit)
            self._claim(queue, rows, look)
        lines.looked(queue, began)
        if len(rows) < limit:
            self._look_again(queue, ONCE_MORE)
        return rows

    async def _from_marks(
        self, columns: str, queue: int, priorities: Sequence[int], limit: int
    ) -> Sequence[Row]:
        found: list[Row] = []
        for priority in priorities:
            mark = self._lines.mark(queue, priority)
            left = limit - len(found)
            with self._lines.look() as look:
                rows = await self._session.locked(columns + OF_LINE, queue, priority, mark, left)
                self._claim(queue, rows, look)
            found += rows
            if len(found) == limit:
                break
        return found

    def _claim(self, queue: int, rows: Sequence[Row], look: Bound) -> None:
        # At once, not at the end: other lanes need not walk over what is locked already.
        self._lines.claimed(queue, rows, look)
        self._claimed.append((queue, rows))

    def has_to_look(self, queue: int) -> bool:
        """A claim may not begin at the mark: nobody has looked from the beginning for long."""
        return self._lines.overdue(queue)

    async def claim(
        self, line: Line, from_mark: Callable[[int], Awaitable[Sequence[Claimed]]]
    ) -> Sequence[Claimed]:
        """Leases the first jobs of a line from its mark on, by ``Hot.claim`` or the like."""
        mark = self._lines.mark(line.queue, line.priority)
        with self._lines.look() as look:
            found = await from_mark(mark)
            self._claim(line.queue, found, look)
        return found

    def left_ready(self, queue: str, rows: Sequence[Row]) -> None:
        # Meanwhile others have passed over them, and believe that there is nothing to be had.
        self.effects.ready[queue] += len(rows)
        for queue_id, claimed in self._claimed:
            mine = {row[0] for row in claimed}
            self._left.append((queue_id, [row for row in rows if row[0] in mine]))

    # --- changes ---

    async def change(self, sql: str, *parameters: object) -> int:
        self.changed = True
        return await self._session.change(sql, *parameters)

    async def change_of(self, sql: str, keys: Iterable[object], *parameters: object) -> int:
        wanted = list(keys)
        if not wanted:
            return 0
        self.changed = True
        return await self._session.change_of(sql, wanted, *parameters)

    async def change_many(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            self.changed = True
            await self._session.change_many(sql, rows)

    async def put_many(self, table: sa.Table, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            self.changed = True
            await self._session.put_many(table, rows)

    async def sequence(self, count: int) -> int:
        if not count:
            return 0
        if self._places is not None:
            return await self._session.sequence(count)
        with self.taking_places() as has:
            first = await self._session.sequence(count)
            has(first)
        return first

    @contextmanager
    def taking_places(self) -> Iterator[Callable[[int], None]]:
        """While the transaction asks for places in lines: to be told the first of them."""
        if self._places is not None:
            yield lambda first: None
            return
        bound = self._places = self._lines.change_begins()
        yield lambda first: self._lines.change_has(bound, first)
