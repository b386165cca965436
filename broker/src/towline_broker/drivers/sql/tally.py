"""Counting what one operation does: the counters cost an update per kind, not one per job."""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from towline_broker.domain.jobs import JobState

#: The columns of ``towline_counters``: first the depths, then the totals.
DEPTHS = ("scheduled", "ready", "leased", "dead")
TOTALS = (
    *("pushed", "started", "completed", "failed", "retried"),
    *("released", "dead_lettered", "lease_expired", "cancelled", "requeued"),
)
COUNTERS = (*DEPTHS, *TOTALS)

_INDEX = {name: index for index, name in enumerate(COUNTERS)}
_DEPTH_OF = {
    JobState.SCHEDULED: 0,
    JobState.READY: 1,
    JobState.LEASED: 2,
    JobState.DEAD: 3,
}


class Tally:
    """Changes of counters, by kind."""

    def __init__(self) -> None:
        self.changes: dict[int, list[int]] = {}

    def add(self, other: "Tally") -> None:
        for kind, changes in other.changes.items():
            row = self._row(kind)
            for index, number in enumerate(changes):
                row[index] += number

    def count(self, what: str, kinds: Iterable[int]) -> None:
        """Adds one to the total for each of the kinds, which may repeat."""
        index = _INDEX[what]
        for kind, number in Counter(kinds).items():
            self._row(kind)[index] += number

    def move(
        self, kinds: Iterable[int], *, out_of: JobState | None = None, into: JobState | None = None
    ) -> None:
        """Moves one job of each of the kinds, which may repeat, from state to state.

        None, SUCCEEDED and CANCELLED are states without a depth.
        """
        source = None if out_of is None else _DEPTH_OF.get(out_of)
        target = None if into is None else _DEPTH_OF.get(into)
        for kind, number in Counter(kinds).items():
            row = self._row(kind)
            if source is not None:
                row[source] -= number
            if target is not None:
                row[target] += number

    def _row(self, kind: int) -> list[int]:
        row = self.changes.get(kind)
        if row is None:
            row = self.changes[kind] = [0] * len(COUNTERS)
        return row


class CounterSink(Protocol):
    """The part of a transaction that a tally is written through."""

    async def change(self, sql: str, *parameters: object) -> int: ...


_SUMS = ", ".join(f"{name} = {name} + ?" for name in COUNTERS)
_ADD = f"UPDATE towline_counters SET {_SUMS} WHERE kind = ? AND shard = ?"  # noqa: S608 - constants
_START = "INSERT INTO towline_counters (kind, shard) VALUES (?, ?)"


async def write_tally(sink: CounterSink, tally: Tally, shard: int) -> None:
    """Adds to the counters of the shard. Nobody else writes to them meanwhile."""
    for kind, changes in tally.changes.items():
        if any(changes) and not await sink.change(_ADD, *changes, kind, shard):
            await sink.change(_START, kind, shard)
            await sink.change(_ADD, *changes, kind, shard)
