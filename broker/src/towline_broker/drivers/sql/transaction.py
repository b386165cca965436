"""What an operation runs in: statements, and what the operation leaves behind besides its rows.

Operations (``pushes.py``, ``claims.py``, ...) are coroutines over a :class:`Transaction` and know
no database. On a database with an asynchronous client their statements really wait. On SQLite they
never do, and :func:`run` plays an operation through on the thread that owns the connection.

Their statements are plain SQL with ``?`` for a parameter; a dialect turns that into its own form
once. ``(?*)``, behind all other parameters, stands for a list of keys of any length, and for the
same list where it stands twice. ``INSERT … ON CONFLICT DO NOTHING`` passes over a row that is there
already.

Where several brokers share a store, each statement sees what was committed before it began (READ
COMMITTED), so that two statements of an operation may see different states. A job goes from
``towline_jobs`` to ``towline_settled`` in one commit: whoever looks for it in this order, and not
in the other, cannot miss it.
"""

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy.sql import Executable

from towline_broker.domain.time import Micros
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


class Raced(Exception):
    """What was read has changed meanwhile: the operation is to be played again from its start."""


class Depths(Protocol):
    """How deep queues are, as far as need be known to be sure that they do not fill up."""

    def surely_below(self, limit: int, queue: str, pushed: int) -> bool:
        """The queue stays below the limit with so many jobs more; False if that is not certain."""

    def read(self, queue: str, depth: int) -> None:
        """The queue holds so many live jobs now."""


class Heads(Protocol):
    """Where to begin to look in an index by time whose earliest entries go all the time.

    A database keeps the entries of rows that are gone until nobody can see those rows any more,
    and whoever looks from the beginning walks over them. A store without that trouble begins at
    the beginning, always.
    """

    def since(self, index: str) -> Micros:
        """Nothing lies before this time, as far as is known."""

    def reached(self, index: str, time: Micros | None) -> None:
        """The earliest that a look from ``since`` found, or the last that it has dealt with."""

    def appeared(self, index: str, time: Micros) -> None:
        """Something with this time comes into the index."""


class Reader(Protocol):
    """A consistent view of the store."""

    @property
    def heads(self) -> Heads: ...

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

    @property
    def depths(self) -> Depths: ...

    @property
    def shared(self) -> bool:
        """Others change the store at the same time."""

    async def locked(self, sql: str, *parameters: object) -> Sequence[Row]:
        """As ``rows``, of jobs or of others: nobody else changes them until the transaction ends.

        Rows that another transaction has locked are passed over.
        """

    async def locked_of(
        self, sql: str, keys: Iterable[object], *parameters: object
    ) -> Sequence[Row]:
        """As ``rows_of``, of jobs: nobody else changes them until the transaction ends.

        Waits for other transactions that have locked one, and then finds what they left of it.
        """

    async def held(self, sql: str, ids: Sequence[str]) -> Sequence[Row]:
        """As ``locked_of``, of LEASED jobs, once each. What ``note_held`` has told need not be read
        again."""

    def note_held(self, rows: Sequence[Row]) -> None:
        """What ``held`` would read of jobs that were just leased: it begins with their ids."""

    async def select_locked(self, statement: sa.Select[Any]) -> Sequence[Row]:
        """As ``select``, of jobs, with the locks of ``locked``."""

    async def next_ready(
        self, columns: str, queue: int, priorities: Sequence[int], limit: int
    ) -> Sequence[Row]:
        """So many READY jobs of a queue in the order of its line, locked as by ``locked``.

        ``columns``: a SELECT of jobs up to its WHERE, which begins with seq, priority and position.
        ``priorities``: those that the jobs of the queue may have, highest first; empty: any.
        """

    def left_ready(self, queue: str, rows: Sequence[Row]) -> None:
        """These that ``next_ready`` found are not taken."""

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
