"""Queues and kinds (types of jobs within a queue), and the numbers that stand for them.

A kind, once made, never changes, so all are kept in memory. What an operation made is dropped again
if the operation fails.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol


class Kind(NamedTuple):
    id: int
    queue_id: int
    queue: str
    type: str


class NameSource(Protocol):
    """The part of a transaction that names are read and made through."""

    async def rows(self, sql: str, *parameters: object) -> Sequence[Sequence[Any]]: ...

    async def change(self, sql: str, *parameters: object) -> int: ...


_KINDS = (
    "SELECT k.id, k.queue, q.name, k.type FROM towline_kinds k"
    " JOIN towline_queues q ON q.id = k.queue WHERE k.id > ? ORDER BY k.id"
)
_QUEUE = "SELECT id FROM towline_queues WHERE name = ?"
_KIND = "SELECT id FROM towline_kinds WHERE queue = ? AND type = ?"
_NEW_QUEUE = "INSERT INTO towline_queues (name, paused) VALUES (?, 0)"
_NEW_KIND = "INSERT INTO towline_kinds (queue, type) VALUES (?, ?)"
_NEW_COUNTERS = "INSERT INTO towline_counters (kind, shard) VALUES (?, ?)"


class Names:
    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._by_id: dict[int, Kind] = {}
        self._by_name: dict[tuple[str, str], Kind] = {}
        self._made: list[Kind] = []

    def of(self, kind_id: int) -> Kind:
        return self._by_id[kind_id]

    async def load(self, source: NameSource) -> None:
        """Reads the kinds that are not known yet."""
        for row in await source.rows(_KINDS, max(self._by_id, default=0)):
            self._learn(Kind(*row))

    async def ensure(
        self, source: NameSource, wanted: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], Kind]:
        """The kinds of these pairs of queue and type, made where there is none."""
        found = {}
        for pair in wanted:
            kind = self._by_name.get(pair)
            if kind is None:
                kind = await self._make(source, *pair)
                self._made.append(kind)
                self._learn(kind)
            found[pair] = kind
        return found

    def keep(self) -> None:
        """What was made is durable."""
        self._made.clear()

    def mark(self) -> int:
        return len(self._made)

    def drop(self, mark: int = 0) -> None:
        """What was made since the mark has been rolled back."""
        for kind in self._made[mark:]:
            del self._by_id[kind.id]
            del self._by_name[kind.queue, kind.type]
        del self._made[mark:]

    def _learn(self, kind: Kind) -> None:
        self._by_id[kind.id] = kind
        self._by_name[kind.queue, kind.type] = kind

    async def _make(self, source: NameSource, queue: str, type_: str) -> Kind:
        rows = await source.rows(_QUEUE, queue)
        if not rows:
            await source.change(_NEW_QUEUE, queue)
            rows = await source.rows(_QUEUE, queue)
        queue_id = rows[0][0]
        await source.change(_NEW_KIND, queue_id, type_)
        kind_id = (await source.rows(_KIND, queue_id, type_))[0][0]
        await source.change(_NEW_COUNTERS, kind_id, self._shard)
        return Kind(kind_id, queue_id, queue, type_)
