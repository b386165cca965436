"""What a database's client has to offer."""

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.sql import Executable

from towline_broker.drivers.sql.shared.hot import Hot
from towline_broker.drivers.sql.tally import Tally
from towline_broker.drivers.sql.transaction import Row


class Trouble(Enum):
    """Errors of a database that are no answer to the caller. The transaction is void, or will be
    found to be."""

    #: Others came first, or the database gave this one up for them: worth another try at once.
    RACE = auto()
    #: The connection is gone or of no use any more: worth another try over a new one.
    LOST = auto()


class Outcome(Enum):
    """What became of a transaction whose COMMIT was not answered."""

    COMMITTED = auto()
    ABORTED = auto()
    #: The server has not noticed yet that we are gone, or is still at it.
    UNDECIDED = auto()
    #: It cannot be told any more.
    UNKNOWN = auto()


class Session(Protocol):
    """One connection, used by one task at a time. Its statements are those of
    ``sql/transaction.py``; outside of a transaction each is one of its own.

    Errors of the client come out as they are: :class:`Database` tells what they mean.
    """

    @property
    def closed(self) -> bool: ...

    @property
    def hot(self) -> Hot | None:
        """The calls that there are most of in few statements, if it has such."""

    @property
    def ticket(self) -> str | None:
        """Of the transaction whose COMMIT was sent last; None if it had changed nothing."""

    async def begin(self) -> None:
        """A transaction in which each statement sees what is committed when it begins."""

    async def begin_snapshot(self) -> None:
        """A transaction in which all statements see the same state and change nothing."""

    async def commit(self) -> None: ...

    async def rollback(self) -> None: ...

    async def outcome(self, ticket: str) -> Outcome:
        """Of a transaction of another session."""

    async def close(self) -> None:
        """At once, whatever is under way. Safe to call twice."""

    # --- statements ---

    async def rows(self, sql: str, *parameters: object) -> Sequence[Row]: ...

    async def rows_of(
        self, sql: str, keys: Iterable[object], *parameters: object
    ) -> Sequence[Row]: ...

    async def select(self, statement: Executable) -> Sequence[Row]: ...

    async def locked(self, sql: str, *parameters: object) -> Sequence[Row]: ...

    async def locked_of(
        self, sql: str, keys: Iterable[object], *parameters: object
    ) -> Sequence[Row]:
        """Locks in a fixed order, so that two who want the same jobs do not wait in a circle."""

    async def select_locked(self, statement: sa.Select[Any]) -> Sequence[Row]: ...

    async def change(self, sql: str, *parameters: object) -> int: ...

    async def change_of(self, sql: str, keys: Iterable[object], *parameters: object) -> int: ...

    async def change_many(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        """No two rows may concern the same row of a table."""

    async def put_many(self, table: sa.Table, rows: Sequence[tuple[object, ...]]) -> None: ...

    async def sequence(self, count: int) -> int: ...

    async def count(self, tally: Tally) -> None:
        """Adds to the counters, in rows with a shard that no other connection writes to: who counts
        never waits for another."""


class Database(Protocol):
    async def connect(self, *, changes: bool) -> Session:
        """A connection that changes, or one that only looks.

        Raises StoreUnavailable, and StoreRefused if waiting will not help.
        """

    def trouble(self, error: Exception) -> Trouble | None:
        """None if the error is none of these."""

    def translated(self, error: Exception) -> Exception:
        """In the terms of the driver interface: StoreUnavailable, StoreFailed, StoreFull for a full
        disk; the error itself if the database has nothing to do with it."""
