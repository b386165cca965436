"""The stores of a broker, and in which of them a queue is at home."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TypeVar

from towline_broker.core.admission import Admission
from towline_broker.core.clock import Clock
from towline_broker.core.queue_limit import QueueLimit
from towline_broker.core.routing import Routes
from towline_broker.core.upkeep import Upkeep
from towline_broker.domain.errors import InvalidField
from towline_broker.domain.events import event
from towline_broker.domain.outage import Outage
from towline_broker.domain.time import SECOND, Micros
from towline_broker.drivers.interface import Capabilities, Driver, Feature, QueueState

log = logging.getLogger("towline.broker")

#: How long none of those who wait looks for a job of which news from another broker was lost; half
#: as long again where several wait.
LOST_NEWS: Micros = 10 * SECOND

#: A full store takes a job each time that one has gone: it has room when it was not full for so
#: long, in seconds.
FULL_AGAIN = 30.0

T = TypeVar("T")
R = TypeVar("R")


class Store:
    """One store, with what belongs to it alone: its clock (P10), its upkeep, how much it is given
    at the same time, and how many queues it may have."""

    def __init__(
        self, name: str, driver: Driver, clock: Clock, upkeep: Upkeep, max_queues: int
    ) -> None:
        self.name = name
        self.driver = driver
        self.clock = clock
        self.upkeep = upkeep
        self.admission = Admission()
        #: Whether new jobs find room in it.
        self.room = Outage(
            "push", "new jobs are refused", "new jobs are taken", name, quiet_for=FULL_AGAIN
        )
        self.queue_limit = QueueLimit(driver, max_queues)
        #: Whether what it is asked for each call is answered before anything else happens.
        self.at_once = driver.capabilities.answers_at_once

    @property
    def capabilities(self) -> Capabilities:
        return self.driver.capabilities

    def offers(self, feature: Feature) -> bool:
        return feature not in self.driver.capabilities.missing


class Stores:
    """Routes queues to stores. A broker with one store pays nothing for it.

    The configuration says where a queue is made. Where it is at home after that, the stores
    themselves know: one that is on its way to another store is at home in the old one until the
    move is complete, and one that holds jobs stays where they are, whatever the configuration says
    by now. :meth:`refresh` finds out.
    """

    def __init__(
        self,
        stores: Sequence[Store],
        routes: Routes,
        memory: Micros,
        on_moved: Callable[[Iterable[str]], None],
    ) -> None:
        """``memory``: how long a store remembers what has ended in it. ``on_moved``: called with
        queues whose home has changed."""
        self.all = tuple(stores)
        self.default = next(store for store in stores if store.name == routes.default)
        self._by_name = {store.name: store for store in stores}
        self._routes = routes
        self._only = stores[0] if len(stores) == 1 else None
        #: Queues that are at home elsewhere than the configuration says.
        self._strays: dict[str, Store] = {}
        #: Queues that are on their way, and the store that they will be at home in.
        self._bound: dict[str, Store] = {}
        self._memory = memory
        self._on_moved = on_moved
        #: What each store has told of its queues, last time it did.
        self._told: dict[Store, Sequence[QueueState]] = {}
        #: What a store told earlier must not come in after what it told later.
        self._asking = {store: asyncio.Lock() for store in stores}
        #: Queues that have moved on from these stores, and when that was noticed.
        self._moved: dict[str, dict[Store, Micros]] = {}
        self._warned: set[tuple[str, str]] = set()

    @property
    def only(self) -> Store | None:
        """The one store of a broker that has no other."""
        return self._only

    @property
    def several(self) -> bool:
        return self._only is None

    @property
    def shared(self) -> bool:
        """Whether other brokers may use any of them."""
        return any(store.capabilities.shared for store in self.all)

    def of(self, queue: str) -> Store:
        """The store in which the queue is at home."""
        if self._only is not None:
            return self._only
        return self._strays.get(queue) or self._configured(queue)

    def holding(self, queue: str) -> list[Store]:
        """The store in which it is at home, and the one that it is on its way to."""
        home, bound_for = self.of(queue), self._bound.get(queue)
        return [home] if bound_for is None or bound_for is home else [home, bound_for]

    @property
    def any_moves(self) -> bool:
        """Whether some queue is on its way: its jobs may be in two stores, or one job in both."""
        return bool(self._bound)

    @property
    def any_moved(self) -> bool:
        """Whether some queue has moved on from a store of late."""
        return bool(self._moved)

    def formerly_of(self, queue: str) -> list[Store]:
        """Stores that may remember jobs of a queue that has moved on from them of late."""
        if not self._moved or queue not in self._moved:
            return []
        horizon = self.default.clock.now() - self._memory
        return [store for store, noticed in self._moved[queue].items() if noticed > horizon]

    def named(self, name: str) -> Store:
        """Raises InvalidField."""
        store = self._by_name.get(name)
        if store is None:
            known = ", ".join(sorted(self._by_name))
            raise InvalidField("store", f"this broker has no store {name!r}; it has {known}")
        return store

    def offering(self, feature: Feature) -> list[Store]:
        """Those that can do it; all, if none can, so that each may say so."""
        return [store for store in self.all if store.offers(feature)] or list(self.all)

    def runs(self, queues: Sequence[str]) -> list[tuple[Store, Sequence[str]]]:
        """The queues in their order, those that follow each other in one store together."""
        if self._only is not None:
            return [(self._only, queues)]
        runs: list[tuple[Store, list[str]]] = []
        for queue in queues:
            store = self.of(queue)
            if runs and runs[-1][0] is store:
                runs[-1][1].append(queue)
            else:
                runs.append((store, [queue]))
        return list(runs)

    def poll_interval(self, queues: Sequence[str]) -> Micros | None:
        """How often who waits for jobs of these queues has to look; None: not at all, for it is
        told."""
        intervals = [_poll_interval(store.capabilities) for store, _ in self.runs(queues)]
        return min((interval for interval in intervals if interval is not None), default=None)

    async def split(
        self,
        items: Sequence[T],
        queue_of: Callable[[T], str],
        ask: Callable[[Store, Sequence[T]], Awaitable[Sequence[R]]],
        missing: Callable[[R], bool] = lambda _: False,
    ) -> Sequence[R]:
        """Asks each store for its items, at the same time; the answers are in the items' order.

        An item whose answer is ``missing`` is asked of the other stores, too: it may have been
        dealt with before its queue moved. Raises what a store raised, after all have answered.
        """
        if self._only is not None:
            return await ask(self._only, items)
        parts: dict[Store, list[int]] = {}
        for index, item in enumerate(items):
            parts.setdefault(self.of(queue_of(item)), []).append(index)
        answers: dict[int, R] = {}
        await self._ask(items, parts, ask, answers)
        for store in self.all:
            # Not by where its queue is at home now: that may have changed since it was asked.
            asked = set(parts.get(store, ()))
            open_ = [index for index, answer in answers.items() if missing(answer)]
            rest = [index for index in open_ if index not in asked]
            if rest:
                await self._ask(items, {store: rest}, ask, answers)
        return [answers[index] for index in range(len(items))]

    @staticmethod
    async def _ask(
        items: Sequence[T],
        parts: dict[Store, list[int]],
        ask: Callable[[Store, Sequence[T]], Awaitable[Sequence[R]]],
        answers: dict[int, R],
    ) -> None:
        asked = [ask(store, [items[index] for index in part]) for store, part in parts.items()]
        results = await asyncio.gather(*asked, return_exceptions=True)
        for part, result in zip(parts.values(), results, strict=True):
            if isinstance(result, BaseException):
                raise result
            answers.update(zip(part, result, strict=True))

    async def refresh(self) -> None:
        """Finds out where queues are at home by now.

        Raises what a store raised, after all have answered: what the others told counts, and what
        that one told last goes on to count.
        """
        asked = [self.refresh_from(store) for store in self.all]
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    async def refresh_from(self, store: Store) -> Sequence[QueueState]:
        """The same, as far as one store knows; returns what it tells. Raises StoreError."""
        if self._only is not None:
            return ()
        async with self._asking[store]:
            told = self._told[store] = await store.driver.queues()
        # Before all have told once, nobody knows what is a stray.
        if len(self._told) == len(self.all):
            self._find_homes()
        return told

    def _find_homes(self) -> None:
        held: dict[str, dict[str, QueueState]] = {}
        for store in self.all:
            for state in self._told[store]:
                held.setdefault(state.name, {})[store.name] = state
        before = self._strays
        self._strays = {}
        self._bound = {
            queue: self._by_name[state.moving_to]
            for queue, states in held.items()
            for state in states.values()
            if not state.moved and state.moving_to in self._by_name
        }
        self._note_moved(held)
        for queue, states in held.items():
            home = self._home(queue, states)
            if home is not self._configured(queue):
                self._strays[queue] = home
            self._warn(queue, home, states)
            self._warn_of_lost_home(queue, states.get(home.name))
        changed = before.keys() | self._strays.keys()
        self._on_moved(q for q in changed if before.get(q) is not self._strays.get(q))

    def _note_moved(self, held: dict[str, dict[str, QueueState]]) -> None:
        noticed = self._moved
        self._moved = {}
        for queue, states in held.items():
            moved_from = [self._by_name[name] for name, state in states.items() if state.moved]
            if moved_from:
                now, before = self.default.clock.now(), noticed.get(queue, {})
                self._moved[queue] = {store: before.get(store, now) for store in moved_from}

    def _configured(self, queue: str) -> Store:
        return self._by_name[self._routes.store_of(queue)]

    def _home(self, queue: str, states: dict[str, QueueState]) -> Store:
        for name, state in states.items():
            if state.moving_to and not state.moved:
                return self._by_name[name]
        name = self._routes.store_of(queue)
        for _ in self.all:
            there = states.get(name)
            if there is not None and there.moved and there.moving_to in self._by_name:
                name = there.moving_to
        if name not in states:
            # It was made when the configuration was another one.
            others = [other for other, state in states.items() if not state.moved]
            if len(others) == 1:
                name = others[0]
        return self._by_name[name]

    def has_left(self, queue: str, state: QueueState | None) -> str:
        """The name of the store that the queue has moved to, if this broker has none such."""
        gone = state is not None and state.moved and state.moving_to not in self._by_name
        return state.moving_to if state is not None and gone else ""

    def _warn_of_lost_home(self, queue: str, state: QueueState | None) -> None:
        name = self.has_left(queue, state)
        if name and (queue, name) not in self._warned:
            self._warned.add((queue, name))
            log.warning(
                "queue %s has moved to store %s, which this broker does not have, so it can take "
                "no jobs for it: name that store in the settings",
                *(queue, name),
                extra=event("queue_store_missing", queue=queue, store=name),
            )

    def _warn(self, queue: str, home: Store, states: Collection[str]) -> None:
        wanted = self._configured(queue)
        if home is not wanted and wanted.name not in states and (queue, "") not in self._warned:
            self._warned.add((queue, ""))
            log.warning(
                "queue %s is kept in store %s, where it was made; the configuration says %s now: "
                "towline-broker move %s --to %s",
                *(queue, home.name, wanted.name, queue, wanted.name),
                extra=event("queue_elsewhere", queue=queue, store=home.name, wanted=wanted.name),
            )


def _poll_interval(capabilities: Capabilities) -> Micros | None:
    """Brokers that share a store tell each other of jobs; but news can be lost, if rarely."""
    if capabilities.poll_interval is None and capabilities.shared:
        return LOST_NEWS
    return capabilities.poll_interval
