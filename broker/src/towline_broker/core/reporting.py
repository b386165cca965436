"""The figures that are shown: per queue, per type and in total.

There can be a hundred thousand queues. So what the stores tell is read once for all who ask at the
same time, all that is done with it is done for the queues that are asked for, and others have their
turn of the event loop in between.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from towline_broker.core.calls import Figures, QueueView
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.queue_options import RuleBook
from towline_broker.core.statistics import Times, Timings
from towline_broker.core.stores import Stores
from towline_broker.domain.errors import QueueNotFound
from towline_broker.domain.identity import Sight
from towline_broker.domain.jobs import DEPTHS, TOTALS, Counts, Depth, Totals
from towline_broker.domain.pieces import OneByOne, pieces
from towline_broker.domain.time import Micros
from towline_broker.domain.together import Together
from towline_broker.drivers.interface import QueueState


@dataclass(frozen=True, slots=True)
class Told:
    """What the stores tell of their queues."""

    #: By name, in its order.
    states: Mapping[str, QueueState]
    counts: Sequence[Counts]
    #: How long the job of each queue that is READY for longest has been so.
    ages: Mapping[str, Micros]


@dataclass(frozen=True, slots=True)
class Summary:
    total: Figures
    queues: Sequence[QueueView]
    #: By type.
    types: Sequence[tuple[str, Figures]]


class Reporting:
    def __init__(
        self, stores: Stores, rules: RuleBook, owned: OwnedTasks, timings: Timings
    ) -> None:
        self._stores = stores
        self._rules = rules
        self._owned = owned
        self._timings = timings
        self._reading = Together(self._read, owned.start)
        self._works = OneByOne()

    async def summary(self, queues: Sequence[str], sight: Sight) -> Summary:
        """Of these queues, or of all in sight. Raises QueueNotFound, StoreError."""
        told = await self._told(queues, sight)
        async with self._works.turn(len(told.states)):
            return await self._summary(told, bool(queues) or sight is not None)

    async def _summary(self, told: Told, some: bool) -> Summary:
        names = told.states.keys()
        # Pairs that Timings could not keep apart have no queue of their own: part of all, only.
        times = await self._timings.grouped(
            lambda q, _: "" if q in names or not (q or some) else None
        )
        oldest = max(told.ages.values(), default=None)
        return Summary(
            _figures(await _summed(told.counts), times.get("", Times()), oldest),
            await self._queue_views(told),
            await self._types(told),
        )

    async def queues(self, sight: Sight) -> list[QueueView]:
        """Every queue in sight. Raises StoreError."""
        told = await self._told((), sight)
        async with self._works.turn(len(told.states)):
            return await self._queue_views(told)

    async def _told(self, queues: Sequence[str], sight: Sight) -> Told:
        """Of these queues, or of all in sight. Raises QueueNotFound."""
        told = await self._reading.result()
        for name in queues:
            if name not in told.states:
                raise QueueNotFound(name)
        if not queues and sight is None:
            return told
        names: list[str] = []
        async for piece in pieces(sorted(set(queues)) if queues else list(told.states)):
            names += piece if sight is None else filter(sight, piece)
        states = {name: told.states[name] for name in names}
        return Told(
            states,
            [row for row in told.counts if row.queue in states] if states else (),
            {queue: told.ages[queue] for queue in names if queue in told.ages},
        )

    async def _read(self) -> Told:
        states: dict[str, QueueState] = {}
        counts: list[Counts] = []
        ages: dict[str, Micros] = {}
        for store in self._stores.all:
            async for of_some in pieces(await store.driver.queues()):
                for state in of_some:
                    # A queue that is on its way between two stores is known to both.
                    if state.name not in states or self._stores.of(state.name) is store:
                        states[state.name] = state
            counts += await store.driver.counts()
            oldest = list((await store.driver.oldest_ready()).items())
            now = store.clock.now()
            async for times in pieces(oldest):
                for queue, since in times:
                    ages[queue] = max(ages.get(queue, 0), now - since)
        in_order: dict[str, QueueState] = {}
        async for names in pieces(sorted(states)):
            in_order |= {name: states[name] for name in names}
        return Told(in_order, counts, ages)

    async def _types(self, told: Told) -> list[tuple[str, Figures]]:
        names = told.states.keys()
        times = await self._timings.grouped(lambda q, t: t if q in names else None)
        rows = await _grouped(told.counts, attrgetter("type"))
        return [
            (name, _figures(await _summed(of_type), times.get(name, Times()), None))
            for name, of_type in sorted(rows.items())
        ]

    async def _queue_views(self, told: Told) -> list[QueueView]:
        names = told.states.keys()
        times = await self._timings.grouped(lambda queue, _: queue if queue in names else None)
        rows = await _grouped(told.counts, attrgetter("queue"))
        views: list[QueueView] = []
        async for piece in pieces(list(told.states.values())):
            for state in piece:
                name = state.name
                counted = _added(rows.get(name, ()))
                figures = _figures(counted, times.get(name, Times()), told.ages.get(name))
                views.append(self._view(state, figures))
        return views

    def _view(self, state: QueueState, figures: Figures) -> QueueView:
        return QueueView(
            state.name,
            state.paused or self._rules.of(state.name).paused,
            figures,
            self._stores.of(state.name).name,
            "" if state.moved else state.moving_to,
        )


def _figures(counted: Counts, times: Times, age: Micros | None) -> Figures:
    return Figures(counted.depth, counted.totals, age, times.processing, times.wait)


async def _grouped(
    counts: Sequence[Counts], key: Callable[[Counts], str]
) -> dict[str, list[Counts]]:
    groups: dict[str, list[Counts]] = {}
    async for piece in pieces(counts):
        for row in piece:
            groups.setdefault(key(row), []).append(row)
    return groups


async def _summed(counts: Sequence[Counts]) -> Counts:
    return _added([_added(piece) async for piece in pieces(counts)])


_DEPTHS = attrgetter(*(f"depth.{name}" for name in DEPTHS))
_TOTALS = attrgetter(*(f"totals.{name}" for name in TOTALS))


def _added(rows: Sequence[Counts]) -> Counts:
    """The sums, under no name."""
    if len(rows) == 1:
        return rows[0]
    if not rows:
        return Counts("", "")
    return Counts("", "", Depth(*_sums(map(_DEPTHS, rows))), Totals(*_sums(map(_TOTALS, rows))))


def _sums(rows: Iterable[tuple[int, ...]]) -> Iterable[int]:
    return map(sum, zip(*rows, strict=True))
