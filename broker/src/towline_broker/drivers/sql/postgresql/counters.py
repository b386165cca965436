"""A connection's own rows of counters.

Each connection that changes has a slot, which it holds by an advisory lock for as long as it lives,
and writes to the counters of that slot only. Whoever gets the slot after it goes on with its rows.

Each update leaves a dead version of its row behind, and the next one walks over all of them for as
long as any session holds an old transaction open. So the rows get a new shard number every few
hundred transactions: under that they are found at once. Numbers of one slot are a fixed distance
apart.
"""

from typing import Any

from asyncpg import Connection

from towline_broker.drivers.sql.tally import COUNTERS, Tally

#: Connections that can change one store at the same time, over all brokers.
SLOTS = 1024
#: Until numbers are used again; what was dead under them is long gone then.
_GENERATIONS = 1 << 20
#: Transactions under one number.
_MOVE_AFTER = 256

_CLAIM = (
    "SELECT slot FROM generate_series(0, $1::int - 1) AS slot"
    " WHERE pg_try_advisory_lock('towline_counters'::regclass::oid::int, slot) LIMIT 1"
)
_FOUND = "SELECT kind, shard FROM towline_counters WHERE shard % $1 = $2"
_MOVE = "UPDATE towline_counters SET shard = $1 WHERE kind = ANY($2) AND shard = $3"
_COLUMNS = ", ".join(COUNTERS)
_ARRAYS = ", ".join(f"${number}::bigint[]" for number in range(3, len(COUNTERS) + 3))
_SUMS = ", ".join(f"{name} = c.{name} + EXCLUDED.{name}" for name in COUNTERS)
#: Tells the number of the transaction, too: see ``session.py``.
_ADD = (
    f"INSERT INTO towline_counters AS c (kind, shard, {_COLUMNS})"  # noqa: S608 - constants
    f" SELECT v.kind, $1, {_COLUMNS} FROM unnest($2::int[], {_ARRAYS}) AS v(kind, {_COLUMNS})"
    f" ON CONFLICT (kind, shard) DO UPDATE SET {_SUMS} RETURNING pg_current_xact_id()::text"
)


class NoSlot(Exception):
    """As many connections as there may be have the store open."""


class Counters:
    def __init__(self, connection: "Connection[Any]", slot: int, shard: int, kinds: set[int]):
        self._connection = connection
        self._slot = slot
        self._shard = shard
        self._kinds = kinds
        self._transactions = _MOVE_AFTER if kinds else 0
        #: What holds if the transaction is committed.
        self._next = (shard, frozenset[int]())

    async def begin(self) -> None:
        """In a transaction that has just begun."""
        self._next = (self._shard, frozenset())
        if self._transactions < _MOVE_AFTER:
            return
        generation = (self._shard // SLOTS + 1) % _GENERATIONS
        shard = generation * SLOTS + self._slot
        await self._connection.execute(_MOVE, shard, list(self._kinds), self._shard)
        self._next = (shard, frozenset())

    async def add(self, tally: Tally) -> str:
        """Returns the number of the transaction."""
        shard = self._next[0]
        rows = [(kind, *changes) for kind, changes in tally.changes.items() if any(changes)]
        columns = [list(column) for column in zip(*rows, strict=True)]
        self._next = (shard, frozenset(row[0] for row in rows))
        return str(await self._connection.fetchval(_ADD, shard, *columns))

    def committed(self) -> None:
        shard, kinds = self._next
        self._transactions = 1 if shard != self._shard else self._transactions + 1
        self._shard = shard
        self._kinds |= kinds


async def claim(connection: "Connection[Any]") -> Counters:
    """Raises NoSlot."""
    slot = await connection.fetchval(_CLAIM, SLOTS)
    if slot is None:
        raise NoSlot
    rows = await connection.fetch(_FOUND, SLOTS, slot)
    shard = max((row["shard"] for row in rows), default=slot)
    return Counters(connection, slot, shard, {row["kind"] for row in rows})
