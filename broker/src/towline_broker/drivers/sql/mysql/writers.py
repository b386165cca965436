"""What a connection that changes has to itself: a row of ``towline_writers``.

It holds the row by a lock of the server's for as long as it lives. The number of the row is that of
its counters, which nobody else writes to. And each transaction writes its own number there: who
lost the answer to a COMMIT reads by it what became of it.
"""

# ruff: noqa: S608 - statements are composed of constants

import secrets
from collections.abc import Sequence
from typing import Protocol

from towline_broker.drivers.sql.transaction import Row

#: Connections that can change one store at the same time, over all brokers.
MOST = 65_536
#: A row is left alone for so long after it was last taken, in microseconds: the one who had it may
#: still ask what became of its last transaction.
_REST = 60_000_000

NOW = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)"
# Names of locks are the server's, not the database's.
_LOCK = "CONCAT('towline.writer.', MD5(DATABASE()), '.', {})"
_FREE = (
    f"SELECT shard, serial FROM towline_writers WHERE taken_at < {NOW} - {_REST}"
    f" AND IS_FREE_LOCK({_LOCK.format('shard')}) = 1 ORDER BY shard LIMIT 8"
)
_NEW = "SELECT COALESCE(MAX(shard), 0) + 1 FROM towline_writers"
_TAKE_LOCK = f"SELECT GET_LOCK({_LOCK.format('?')}, 0)"
_ADD = (
    "INSERT INTO towline_writers (shard, owner, serial, taken_at)"
    f" VALUES (?, ?, 0, {NOW}) ON CONFLICT DO NOTHING"
)
_TAKE = f"UPDATE towline_writers SET owner = ?, taken_at = {NOW} WHERE shard = ?"
NOTE = f"UPDATE towline_writers SET serial = ?, taken_at = {NOW} WHERE shard = ? AND owner = ?"
#: Waits for nobody: whoever holds the row is still at it.
ASK = "SELECT owner, serial FROM towline_writers WHERE shard = ? FOR UPDATE NOWAIT"


class Statements(Protocol):
    async def rows(self, sql: str, *parameters: object) -> Sequence[Row]: ...

    async def change(self, sql: str, *parameters: object) -> int: ...


class NoWriter(Exception):
    """As many connections as there may be change the store."""


class Writer:
    def __init__(self, shard: int, owner: str, serial: int) -> None:
        self.shard = shard
        self.owner = owner
        #: Of the transaction that was noted last.
        self.serial = serial

    @property
    def ticket(self) -> str:
        return f"{self.shard} {self.owner} {self.serial}"


async def claim(statements: Statements) -> Writer:
    """Raises NoWriter."""
    owner = secrets.token_hex(16)
    for shard, serial in await statements.rows(_FREE):
        if (await statements.rows(_TAKE_LOCK, shard))[0][0] == 1:
            await statements.change(_TAKE, owner, shard)
            return Writer(shard, owner, serial)
    shard = (await statements.rows(_NEW))[0][0]
    while shard <= MOST:
        locked = (await statements.rows(_TAKE_LOCK, shard))[0][0] == 1
        if locked and await statements.change(_ADD, shard, owner):
            return Writer(shard, owner, 0)
        shard += 1
    raise NoWriter
