"""What an operator does with queues and workers, and the figures that are shown."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from towline_broker.core.calls import Directive, QueueView, Report, WorkerView
from towline_broker.core.clock import Clock
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.peers import Peers
from towline_broker.core.queue_options import RuleBook
from towline_broker.core.reporting import Reporting
from towline_broker.core.settings import CoreSettings
from towline_broker.core.statistics import Timings
from towline_broker.core.stores import Store, Stores
from towline_broker.domain.errors import (
    InvalidField,
    PermissionDenied,
    WorkerNotFound,
)
from towline_broker.domain.identity import Right, Sight
from towline_broker.drivers.interface import Handled, PurgeRequest


class Operating:
    def __init__(
        self,
        stores: Stores,
        clock: Clock,
        settings: CoreSettings,
        rules: RuleBook,
        owned: OwnedTasks,
        peers: Peers,
        timings: Timings,
    ) -> None:
        self._stores = stores
        self._clock = clock
        self._settings = settings
        self._rules = rules
        self._owned = owned
        self._peers = peers
        self._timings = timings
        self._reporting = Reporting(stores, rules, owned, timings)
        self._started_at = clock.now()

    def begin(self) -> None:
        """The clock tells the time of its store from here on."""
        self._started_at = self._clock.now()

    async def report(self, queues: Sequence[str] = (), sight: Sight = None) -> Report:
        """Figures of these queues, or of all in sight. Raises QueueNotFound, StoreError."""
        summary = await self._reporting.summary(queues, sight)
        now = self._clock.now()
        return Report(
            total=summary.total,
            queues=summary.queues,
            types=summary.types,
            stores=[(store.name, store.capabilities) for store in self._by_importance()],
            workers=len(await self.workers()),
            uptime=now - self._started_at,
            started_at=self._started_at,
            store_time=now,
        )

    def _by_importance(self) -> list[Store]:
        """The default store first."""
        return sorted(self._stores.all, key=lambda store: store is not self._stores.default)

    async def queues(self, sight: Sight = None) -> list[QueueView]:
        """Every queue in sight, with its figures. Raises StoreError."""
        return await self._reporting.queues(sight)

    async def reset(self) -> None:
        for store in self._stores.all:
            await self._owned.run(store.driver.reset_totals())
        self._timings.reset()

    async def pause(self, queue: str) -> bool:
        """Returns whether that changed anything. Raises QueueNotFound."""
        return await self._owned.run(self._stores.of(queue).driver.set_paused(queue, True))

    async def resume(self, queue: str) -> bool:
        """Returns whether that changed anything. Raises QueueNotFound, and InvalidField for a queue
        that would stay paused all the same."""
        if self._rules.of(queue).paused:
            raise InvalidField(
                "queue",
                f"{queue!r} is paused by the settings of the broker: set paused = false for it "
                "there, and have them read again",
            )
        return await self._owned.run(self._stores.of(queue).driver.set_paused(queue, False))

    async def purge(self, queue: str, limit: int, dry_run: bool) -> Handled:
        """Raises QueueNotFound, NotSupported."""
        if dry_run:
            summary = await self._reporting.summary([queue], None)
            return Handled(summary.total.depth.ready + summary.total.depth.scheduled, 0)
        return await self._owned.run(self._purge(queue, limit))

    async def _purge(self, queue: str, limit: int) -> Handled:
        home, *others = self._stores.holding(queue)
        purged = await self._purge_in(home, queue, limit)
        for store in others:
            if any(state.name == queue for state in await store.driver.queues()):
                more = await self._purge_in(store, queue, limit - purged.handled)
                purged = Handled(purged.matched + more.matched, purged.handled + more.handled)
        return purged

    async def _purge_in(self, store: Store, queue: str, limit: int) -> Handled:
        if limit <= 0:
            waiting = [row.depth for row in await store.driver.counts() if row.queue == queue]
            return Handled(sum(depth.ready + depth.scheduled for depth in waiting), 0)
        now = store.clock.now()
        request = PurgeRequest(queue, limit, now, now + self._settings.settle_memory)
        return await store.driver.purge(request)

    async def workers(self, sight: Sight = None) -> list[WorkerView]:
        """Those that serve a queue in sight or hold a lease of one, as if they had to do with no
        other. Raises StoreError."""
        views = await self._owned.run(self._peers.views())
        if sight is None:
            return views
        seen = [_in_sight(view, sight) for view in views]
        return [view for view in seen if view.queues or view.leases]

    async def stop_worker(self, worker_id: str, directive: Directive, sight: Sight = None) -> None:
        """Every identity has workers of its own: told are all of this name that serve no queue out
        of sight.

        Raises WorkerNotFound (none that serves a queue in sight), PermissionDenied (each serves
        others, too), StoreError.
        """
        views = await self._owned.run(self._peers.views())
        named = [view for view in views if view.key.id == worker_id]
        if sight is not None:
            named = [view for view in named if any(map(sight, view.queues))]
        if not named:
            raise WorkerNotFound(worker_id)
        told = [view.key for view in named if sight is None or all(map(sight, view.queues))]
        if not told:
            raise PermissionDenied(
                f"worker {worker_id!r} also serves queues for which you lack the right admin",
                Right.ADMIN,
            )
        await self._owned.run(self._peers.direct(told, directive))


def _in_sight(view: WorkerView, sight: Callable[[str], bool]) -> WorkerView:
    leases = {queue: count for queue, count in view.leases.items() if sight(queue)}
    return replace(view, queues=list(filter(sight, view.queues)), leases=leases)
