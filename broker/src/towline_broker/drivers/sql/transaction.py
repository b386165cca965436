"""What an operation runs in: statements, and what the operation leaves behind besides its rows.

Operations (``pushes.py``, ``claims.py``, ...) are coroutines over a :class:`Transaction` and know
no database. On a database with an asynchronous client their statements really wait. On SQLite they
never do, and :func:`run` plays an operation through on the thread that owns the connection.

Their statements are plain SQL with ``?`` for a parameter; a dialect turns that into its own form
once. ``(?*)`` at the end of a statement's parameters stands for a list of keys of any length.
"""

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy.sql import Executable

from towline_broker.drivers.sql.names import Names
from towline_broker.drivers.sql.tally import Tally, write_tally

T = TypeVar("T")

#: A row as the database's client hands it out: its columns in the order of the SELECT.
Row: TypeAlias = Sequence[Any]


class Effects:
    """What the listener hears once the change is durable."""

    def __init__(self) -> None:
        self.ready: Counter[str] = Counter()
        self.ended: list[str] = []


class Reader(Protocol):
    """A consistent view of the store."""

    async def rows(self, sql: str, *parameters: object) -> Sequence[Row]: ...

    async def rows_of(self, sql: str, keys: Iterable[object], *parameters: object) -> Sequence[Row]:
        """The rows for a list of keys, ``(?*)`` in the statement, whose parameters come first."""

    async def select(self, statement: Executable) -> Sequence[Row]:
        """A statement composed by SQLAlchemy, for what is asked seldom."""


class Transaction(Reader, Protocol):
    """A change that takes place whole or not at all."""

    @property
    def names(self) -> Names: ...

    @property
    def tally(self) -> Tally: ...

    @property
    def effects(self) -> Effects: ...

    async def change(self, sql: str, *parameters: object) -> int:
        """Returns how many rows it met."""

    async def change_of(self, sql: str, keys: Iterable[object], *parameters: object) -> int:
        """The same for a list of keys, ``(?*)`` in the statement, whose parameters come first."""

    async def change_many(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        """One statement for each row of parameters."""

    async def put_many(self, table: sa.Table, rows: Sequence[tuple[object, ...]]) -> None:
        """Inserts whole rows, in place of those with the same primary key."""

    async def sequence(self, count: int) -> int:
        """Takes consecutive numbers, greater than all taken before; returns the first."""


Query: TypeAlias = Callable[[Reader], Coroutine[Any, Any, T]]
Operation: TypeAlias = Callable[[Transaction], Coroutine[Any, Any, T]]


async def perform(transaction: Transaction, operation: Operation[T], shard: int) -> T:
    """An operation together with its counters."""
    result = await operation(transaction)
    await write_tally(transaction, transaction.tally, shard)
    return result


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Plays a coroutine whose statements never wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a statement waited where none may")
