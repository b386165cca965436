"""Queues, kinds (types of jobs within a queue) and lines (priorities within a queue), and the
numbers that stand for them.

A kind or line, once made, never changes, so all are kept in memory. What an operation made is
dropped again if the operation fails. Others may make the same at the same time: whoever comes
second waits for the first and finds what it made.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

#: Of one queue that are told apart; who has more uses the priority as something else.
MOST_LINES = 32


class Kind(NamedTuple):
    id: int
    queue_id: int
    queue: str
    type: str


class UnknownKind(Exception):
    """A job is of a kind that was made elsewhere: to be loaded before the operation is repeated."""


class NameSource(Protocol):
    """The part of a transaction that names are read and made through."""

    async def rows(self, sql: str, *parameters: object) -> Sequence[Sequence[Any]]: ...

    async def change(self, sql: str, *parameters: object) -> int: ...


_KINDS = (
    "SELECT k.id, k.queue, q.name, k.type FROM towline_kinds k"
    " JOIN towline_queues q ON q.id = k.queue ORDER BY k.id"
)
_QUEUE = "SELECT id FROM towline_queues WHERE name = ?"
_KIND = "SELECT id FROM towline_kinds WHERE queue = ? AND type = ?"
_NEW_QUEUE = "INSERT INTO towline_queues (name, paused) VALUES (?, 0) ON CONFLICT DO NOTHING"
_NEW_KIND = "INSERT INTO towline_kinds (queue, type) VALUES (?, ?) ON CONFLICT DO NOTHING"
_NEW_LINE = "INSERT INTO towline_lines (queue, priority) VALUES (?, ?) ON CONFLICT DO NOTHING"


class Names:
    def __init__(self) -> None:
        self._by_id: dict[int, Kind] = {}
        self._by_name: dict[tuple[str, str], Kind] = {}
        self._lines: dict[int, set[int]] = {}
        #: How to forget what was made and is not durable yet.
        self._made: list[Callable[[], None]] = []

    def of(self, kind_id: int) -> Kind:
        kind = self._by_id.get(kind_id)
        if kind is None:
            raise UnknownKind(kind_id)
        return kind

    async def load(self, source: NameSource) -> None:
        """Reads all kinds. (Those made later may have lower numbers.)"""
        for row in await source.rows(_KINDS):
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
                self._learn(kind)
                self._made.append(partial(self._unlearn, kind))
            found[pair] = kind
        return found

    async def ensure_lines(self, source: NameSource, wanted: Iterable[tuple[int, int]]) -> None:
        """Makes the lines of these pairs of a queue's number and a priority where there are none.

        Beyond ``MOST_LINES`` of a queue they are not worth knowing.
        """
        for queue, priority in wanted:
            lines = self._lines.setdefault(queue, set())
            if priority not in lines and len(lines) <= MOST_LINES:
                await source.change(_NEW_LINE, queue, priority)
                lines.add(priority)
                self._made.append(partial(lines.discard, priority))

    def keep(self) -> None:
        """What was made is durable."""
        self._made.clear()

    def mark(self) -> int:
        return len(self._made)

    def drop(self, mark: int = 0) -> None:
        """What was made since the mark has been rolled back."""
        for unmake in self._made[mark:]:
            unmake()
        del self._made[mark:]

    def _learn(self, kind: Kind) -> None:
        self._by_id[kind.id] = kind
        self._by_name[kind.queue, kind.type] = kind

    def _unlearn(self, kind: Kind) -> None:
        del self._by_id[kind.id]
        del self._by_name[kind.queue, kind.type]

    async def _make(self, source: NameSource, queue: str, type_: str) -> Kind:
        rows = await source.rows(_QUEUE, queue)
        if not rows:
            await source.change(_NEW_QUEUE, queue)
            rows = await source.rows(_QUEUE, queue)
        queue_id = rows[0][0]
        await source.change(_NEW_KIND, queue_id, type_)
        kind_id = (await source.rows(_KIND, queue_id, type_))[0][0]
        return Kind(kind_id, queue_id, queue, type_)
