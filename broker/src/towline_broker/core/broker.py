"""The core, assembled over one or more stores."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from random import Random

from towline_broker.core.clock import Clock, SystemClock
from towline_broker.core.dead_letters import DeadLetters
from towline_broker.core.dead_retention import INTERVAL as LOOK_AT_DEAD
from towline_broker.core.dead_retention import DeadRetention
from towline_broker.core.distinct import check_distinct
from towline_broker.core.following import INTERVAL as LOOK_AT_CLOCK
from towline_broker.core.following import Following
from towline_broker.core.holding import Hold
from towline_broker.core.leasing import Leasing
from towline_broker.core.moving import Moving
from towline_broker.core.observing import Observing
from towline_broker.core.operating import Operating
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.peers import INTERVAL as LOOK_AT_PEERS
from towline_broker.core.peers import Peers
from towline_broker.core.producing import Producing
from towline_broker.core.queue_options import QueueOptions, QueueRules, RuleBook
from towline_broker.core.rounds import every
from towline_broker.core.routing import DEFAULT_STORE, Routes
from towline_broker.core.settings import CoreSettings
from towline_broker.core.settling import Settling
from towline_broker.core.statistics import Timings
from towline_broker.core.stores import Store, Stores
from towline_broker.core.unkept import unkept
from towline_broker.core.upkeep import Upkeep
from towline_broker.core.waiting import EVERYBODY, EndWatch, ReserveLine, WaitLimit
from towline_broker.core.workers import Workers
from towline_broker.domain.errors import OptionRefused, StoreRefused, StoreUnavailable
from towline_broker.domain.events import about_store
from towline_broker.domain.outage import Outage
from towline_broker.domain.time import SECOND, Micros
from towline_broker.drivers.interface import Capabilities, Driver

#: Between two looks at where queues are at home by now.
LOOK_AT_HOMES: Micros = 1 * SECOND


class Broker:
    """Starts, drains and stops the rules around its stores, and hands their rooms to the services.

    ``failed`` is set when a store broke a promise that durability rests on: the process must end.
    """

    def __init__(
        self,
        drivers: Mapping[str, Driver] | Driver,
        routes: Routes | None = None,
        *,
        clock: Clock | None = None,
        settings: CoreSettings | None = None,
        queue_options: Mapping[str, QueueOptions] | None = None,
        rng: Random | None = None,
    ) -> None:
        """``drivers``: by the name of the store, or the only one. ``clock``: for all stores, in
        place of the clock that each has. ``queue_options``: by the name of a queue or a pattern;
        see :meth:`apply`."""
        settings = settings or CoreSettings()
        rng = rng or Random()  # noqa: S311 -- jitter and fairness, no secret
        if not isinstance(drivers, Mapping):
            drivers = {DEFAULT_STORE: drivers}
        owned, hold = OwnedTasks(), Hold()
        #: How many calls may wait.
        self.waiters = limit = WaitLimit(settings.max_waiters)
        timings = Timings()
        self._routes = routes = routes or Routes()
        self._queue_options = queue_options or {}
        self._rules = rules = RuleBook(settings, self._queue_options)
        #: Clocks that go by that of a store if it is shared, by the store's name.
        self._own_clocks = {} if clock else {name: SystemClock() for name in drivers}
        clocks = {name: clock or self._own_clocks[name] for name in drivers}
        self.clock = clocks[routes.default]
        workers = Workers(self.clock, settings.worker_memory, settings.max_workers)
        self._stores = Stores(
            [
                Store(
                    *(name, driver, clocks[name]),
                    Upkeep(driver, clocks[name], settings, owned, workers),
                    settings.max_queues,
                )
                for name, driver in drivers.items()
            ],
            routes,
            settings.settle_memory,
            self._look_again,
        )
        self._owned = owned
        self._rounds: list[asyncio.Task[None]] = []
        self._line = ReserveLine()
        self._watch = EndWatch()
        self._peers = Peers(self._stores.default, workers, settings)
        self.failed = owned.failed
        #: In one store.
        self.max_queues = settings.max_queues
        self.jobs = Producing(
            *(self._stores, self.clock, settings, rules, owned, self._watch, limit, hold)
        )
        self.leasing = Leasing(
            self._stores,
            self.clock,
            settings,
            rules,
            owned,
            self._line,
            limit,
            workers,
            timings,
            rng,
        )
        self.settling = Settling(self._stores, settings, owned, workers, timings, rng)
        self.dead_letters = DeadLetters(self._stores, settings, owned)
        self.operating = Operating(
            *(self._stores, self.clock, settings, rules, owned, self._peers, timings)
        )
        self._dead_retention = DeadRetention(rules, settings, owned)
        self.observing = Observing(self._stores, rules, owned, self._peers, timings, limit)
        self.moving = Moving(self._stores, owned, self._line, hold)

    @property
    def capabilities(self) -> Capabilities:
        """Of the default store."""
        return self._stores.default.capabilities

    @property
    def stores(self) -> dict[str, Capabilities]:
        """Of every store, by name."""
        return {store.name: store.capabilities for store in self._stores.all}

    def capabilities_of(self, queue: str) -> Capabilities:
        """Of the store in which the queue is at home."""
        return self._stores.of(queue).capabilities

    def home_of(self, queue: str) -> str:
        """The name of the store in which the queue is at home."""
        return self._stores.of(queue).name

    def now_of(self, queue: str) -> Micros:
        """The time by the clock of the store in which the queue is at home."""
        return self._stores.of(queue).clock.now()

    def rules_of(self, queue: str) -> QueueRules:
        """What applies to a queue now, by the settings."""
        return self._rules.of(queue)

    def apply(self, queue_options: Mapping[str, QueueOptions]) -> None:
        """These options of queues, in place of all that were set before, while the broker runs.

        What changes when: ``max_depth`` and the defaults of jobs with the next Push (jobs that are
        stored keep what they have); ``lease`` with the next grant; ``paused`` at once, for calls
        that wait too, while leases that were granted run on; ``dead_letters`` and
        ``dead_letter_retention`` within some seconds, for jobs that are dead already as well.

        Raises OptionRefused for one that the store of its queues does not offer, and ValueError for
        patterns of which neither comes first; in both cases nothing has changed.
        """
        self._check_kept(queue_options)
        waiting = self._line.queues
        paused = {queue for queue in waiting if self._rules.of(queue).paused}
        self._rules.replace(queue_options)
        self._queue_options = queue_options
        self._look_again(queue for queue in paused if not self._rules.of(queue).paused)

    def _check_kept(self, queue_options: Mapping[str, QueueOptions]) -> None:
        found = list(unkept(queue_options, self._routes, self.stores))
        if found:
            raise OptionRefused(found)

    async def start(self) -> None:
        """Raises StoreRefused, StoreUnavailable, OptionRefused, having closed what it had
        opened."""
        try:
            for store in self._stores.all:
                await self._open(store)
            self._check_kept(self._queue_options)
            followings = [
                Following(store.name, store.driver, self._own_clocks[store.name])
                for store in self._stores.all
                if store.capabilities.shared and store.name in self._own_clocks
            ]
            for following in followings:
                await following.begin()
            self.operating.begin()
            await check_distinct(self._stores.all)
            await self._stores.refresh()
        except BaseException:
            for store in self._stores.all:
                await store.driver.close()
            raise
        for store in self._stores.all:
            with about_store(store.name):
                store.upkeep.start()
        for following in followings:
            outage = Outage(
                "clock", "its clock cannot be read", "its clock is read again", following.name
            )
            self._repeat(LOOK_AT_CLOCK, following.look, outage)
        for store in self._stores.all:
            outage = Outage(
                "dead_retention",
                "dead jobs stay longer than they are to be kept",
                "dead jobs are deleted again",
                store.name,
            )
            self._repeat(LOOK_AT_DEAD, partial(self._dead_retention.round, store), outage)
        if self._peers.shared:
            outage = Outage(
                "workers",
                "the workers of other brokers cannot be read",
                "the workers of other brokers are read again",
                self._stores.default.name,
            )
            self._repeat(LOOK_AT_PEERS, self._peers.round, outage)
        if self._stores.several:
            for name in self.stores:
                outage = Outage(
                    "moves",
                    "its queues are not looked after",
                    "its queues are looked after again",
                    name,
                )
                self._repeat(LOOK_AT_HOMES, partial(self.moving.round, name), outage)

    async def _open(self, store: Store) -> None:
        try:
            with about_store(store.name):
                seen = await store.driver.open(store.clock.now(), self)
        except (StoreRefused, StoreUnavailable) as error:
            if not self._stores.several:
                raise
            raise type(error)(f"{store.name}: {error}") from error
        own = self._own_clocks.get(store.name)
        if own is not None and store.capabilities.shared:
            # Not the later of the two: if this machine's clock is ahead of the store's, leases of
            # other brokers would seem to have run out.
            own.begin_at(seen)
        else:
            store.clock.not_before(seen)

    def _repeat(
        self, interval: Micros, step: Callable[[], Awaitable[object]], outage: Outage
    ) -> None:
        self._rounds.append(self._owned.start(every(interval, step, outage)))

    async def catch_up(self) -> None:
        """Does at once what has fallen due, without waiting for the upkeep to come round: for who
        has set the clock forward. Raises StoreError."""
        for store in self._stores.all:
            await store.upkeep.round()
            await self._dead_retention.round(store)

    def drain(self) -> None:
        """No new work from here on, and parked calls are answered. Settling goes on until
        :meth:`stop`."""
        self.jobs.drain()
        self.leasing.drain()

    async def stop(self) -> None:
        """Drains, finishes what is under way and closes the stores."""
        self.drain()
        self.observing.close()
        for task in self._rounds:
            task.cancel()
        for store in self._stores.all:
            await store.upkeep.stop()
        await self._owned.settle()
        await self._peers.leave()
        for store in self._stores.all:
            await store.driver.close()

    def _look_again(self, queues: Iterable[str]) -> None:
        """Who waits for these is to ask the store that they are at home in now."""
        for queue in queues:
            self._line.wake(queue, EVERYBODY)

    # The drivers' listener.

    def jobs_ready(self, queue: str, count: int) -> None:
        self._wake(queue, count)

    def jobs_coming(self, queue: str, count: int) -> None:
        self._wake(queue, count, ahead=True)

    def _wake(self, queue: str, count: int, *, ahead: bool = False) -> None:
        if not (self._rules.any_paused and self._rules.of(queue).paused):
            self._line.wake(queue, count, ahead=ahead)

    def jobs_ended(self, job_ids: Sequence[str]) -> None:
        self._watch.ended(job_ids)
