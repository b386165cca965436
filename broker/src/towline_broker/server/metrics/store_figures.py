"""What the stores tell, as rows: per queue and per type."""

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter

from towline_broker.core.observing import Reading
from towline_broker.domain.jobs import Counts
from towline_broker.domain.pieces import pieces
from towline_broker.domain.time import Micros, to_seconds
from towline_broker.drivers.interface import QueueState
from towline_broker.server.metrics import families
from towline_broker.server.metrics.families import Family, Row, Rows
from towline_broker.server.metrics.naming import Names

Key = tuple[str, str]

_DEPTHS = attrgetter(*(f"depth.{field}" for field in families.DEPTHS))
_TOTALS = attrgetter(*(f"totals.{field}" for field in families.TOTALS))


class StoreFigures:
    """Of stores that have answered, added up by what is named."""

    def __init__(self, queues: Names, types: Names) -> None:
        self._names = (queues, types)
        #: By store and queue, by store and type: the depths, and behind them the totals.
        self._sums: tuple[dict[Key, list[int]], dict[Key, list[int]]] = ({}, {})
        self._oldest: dict[Key, Micros] = {}
        self._paused: dict[Key, bool] = {}

    async def add(self, readings: Mapping[str, Reading | None]) -> None:
        told = [(store, reading) for store, reading in readings.items() if reading is not None]
        queues, types = self._names
        queues.meet(state.name for _, reading in told for state in reading.states)
        types.meet(row.type for _, reading in told for row in reading.counts)
        for store, reading in told:
            async for states in pieces(reading.states):
                self._add_states(store, states, reading.ages)
            async for counts in pieces(reading.counts):
                self._add_counts(store, counts)

    def rows(self, workers: int) -> Iterator[Rows]:
        queues, types = self._sums
        yield families.QUEUE_JOBS, _by_state(queues)
        ages = ((key, to_seconds(age)) for key, age in self._oldest.items())
        yield families.QUEUE_OLDEST, (Row(key, age) for key, age in ages)
        yield families.QUEUE_PAUSED, (Row(key, int(is_so)) for key, is_so in self._paused.items())
        yield from _totals(families.QUEUE_TOTALS, queues)
        yield families.TYPE_JOBS, _by_state(types)
        yield from _totals(families.TYPE_TOTALS, types)
        yield families.WORKERS, [Row((), workers)]

    def _add_states(
        self, store: str, states: Iterable[QueueState], ages: Mapping[str, Micros]
    ) -> None:
        label = self._names[0].label
        for state in states:
            key = (store, label(state.name))
            self._sums[0].setdefault(key, [0] * _WIDTH)
            self._oldest[key] = max(self._oldest.get(key, 0), ages.get(state.name, 0))
            # Of those that are not named nothing can be said together.
            if key[1] != families.OTHERS and not state.moved:
                self._paused[key] = state.paused

    def _add_counts(self, store: str, counts: Iterable[Counts]) -> None:
        queues, types = self._names
        for row in counts:
            values = (*_DEPTHS(row), *_TOTALS(row))
            _add(self._sums[0], (store, queues.label(row.queue)), values)
            if row.type:  # not of a store that does not tell types apart
                _add(self._sums[1], (store, types.label(row.type)), values)


_WIDTH = len(families.DEPTHS) + len(families.TOTALS)


def _add(sums: dict[Key, list[int]], key: Key, values: tuple[int, ...]) -> None:
    known = sums.get(key)
    sums[key] = (
        list(values)
        if known is None
        else [one + other for one, other in zip(known, values, strict=True)]
    )


def _by_state(sums: Mapping[Key, list[int]]) -> Iterator[Row]:
    for key, values in sums.items():
        for state, value in zip(families.DEPTHS, values, strict=False):
            yield Row((*key, state), value)


def _totals(of: Mapping[str, Family], sums: Mapping[Key, list[int]]) -> Iterator[Rows]:
    for index, family in enumerate(of.values(), start=len(families.DEPTHS)):
        yield family, _column(sums, index)


def _column(sums: Mapping[Key, list[int]], index: int) -> Iterator[Row]:
    return (Row(key, values[index]) for key, values in sums.items())
