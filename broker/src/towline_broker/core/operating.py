"""What an operator does with queues and workers, and the figures that are shown."""

from collections.abc import Callable, Sequence
from dataclasses import fields

from towline_broker.core.calls import Directive, Figures, QueueView, Report, WorkerView
from towline_broker.core.clock import Clock
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.settings import CoreSettings
from towline_broker.core.statistics import Times, Timings
from towline_broker.core.workers import Workers
from towline_broker.domain.errors import QueueNotFound
from towline_broker.domain.jobs import Counts, Depth, Totals
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Driver, Handled, PurgeRequest, QueueState


class Operating:
    def __init__(
        self,
        driver: Driver,
        clock: Clock,
        settings: CoreSettings,
        owned: OwnedTasks,
        workers: Workers,
        timings: Timings,
    ) -> None:
        self._driver = driver
        self._clock = clock
        self._settings = settings
        self._owned = owned
        self._workers = workers
        self._timings = timings
        self._started_at = clock.now()

    async def report(self, queues: Sequence[str] = ()) -> Report:
        """Figures of these queues, or of all. Raises QueueNotFound."""
        states = await self._states(queues)
        names = {state.name for state in states}
        counts = await self._counts(names)
        oldest = await self._oldest(names)
        # Pairs that Timings could not keep apart have no queue of their own: part of all, only.
        total = self._timings.grouped(lambda q, _: "" if q in names or not (q or queues) else None)
        by_type = self._timings.grouped(lambda q, t: t if q in names else None)
        now = self._clock.now()
        return Report(
            total=_figures(counts, total.get("", Times()), min(oldest.values(), default=None), now),
            queues=self._queue_views(states, counts, oldest, now),
            types=[
                (name, _figures(rows, by_type.get(name, Times()), None, now))
                for name, rows in sorted(_grouped(counts, lambda row: row.type).items())
            ],
            capabilities=self._driver.capabilities,
            workers=self._workers.count(),
            uptime=now - self._started_at,
            started_at=self._started_at,
            store_time=now,
        )

    async def queues(self) -> list[QueueView]:
        """Every queue, with its depth and totals."""
        states = await self._states(())
        names = {state.name for state in states}
        counts, oldest = await self._counts(names), await self._oldest(names)
        return self._queue_views(states, counts, oldest, self._clock.now())

    async def reset(self) -> None:
        await self._owned.run(self._driver.reset_totals())
        self._timings.reset()

    async def pause(self, queue: str) -> bool:
        """Returns whether that changed anything. Raises QueueNotFound."""
        return await self._owned.run(self._driver.set_paused(queue, True))

    async def resume(self, queue: str) -> bool:
        """Returns whether that changed anything. Raises QueueNotFound."""
        return await self._owned.run(self._driver.set_paused(queue, False))

    async def purge(self, queue: str, limit: int, dry_run: bool) -> Handled:
        """Raises QueueNotFound."""
        if dry_run:
            await self._states([queue])
            waiting = [row.depth for row in await self._counts({queue})]
            return Handled(sum(depth.ready + depth.scheduled for depth in waiting), 0)
        now = self._clock.now()
        request = PurgeRequest(queue, limit, now, now + self._settings.settle_memory)
        return await self._owned.run(self._driver.purge(request))

    def workers(self) -> list[WorkerView]:
        return self._workers.views()

    def stop_worker(self, worker_id: str, directive: Directive) -> None:
        """Raises WorkerNotFound."""
        self._workers.direct(worker_id, directive)

    async def _states(self, wanted: Sequence[str]) -> list[QueueState]:
        states = await self._owned.run(self._driver.queues())
        if not wanted:
            return states
        by_name = {state.name: state for state in states}
        for name in wanted:
            if name not in by_name:
                raise QueueNotFound(name)
        return [by_name[name] for name in sorted(set(wanted))]

    async def _counts(self, queues: set[str]) -> list[Counts]:
        counts = await self._owned.run(self._driver.counts())
        return [row for row in counts if row.queue in queues]

    async def _oldest(self, queues: set[str]) -> dict[str, Micros]:
        oldest = await self._owned.run(self._driver.oldest_ready())
        return {queue: since for queue, since in oldest.items() if queue in queues}

    def _queue_views(
        self,
        states: Sequence[QueueState],
        counts: Sequence[Counts],
        oldest: dict[str, Micros],
        now: Micros,
    ) -> list[QueueView]:
        rows = _grouped(counts, lambda row: row.queue)
        times = self._timings.grouped(lambda queue, _: queue)
        return [
            QueueView(
                state.name,
                state.paused,
                _figures(
                    rows.get(state.name, []),
                    times.get(state.name, Times()),
                    oldest.get(state.name),
                    now,
                ),
            )
            for state in states
        ]


def _grouped(counts: Sequence[Counts], key: Callable[[Counts], str]) -> dict[str, list[Counts]]:
    groups: dict[str, list[Counts]] = {}
    for row in counts:
        groups.setdefault(key(row), []).append(row)
    return groups


def _figures(rows: Sequence[Counts], times: Times, oldest: Micros | None, now: Micros) -> Figures:
    depth, totals = Depth(), Totals()
    for row in rows:
        _add(depth, row.depth)
        _add(totals, row.totals)
    age = None if oldest is None else max(0, now - oldest)
    return Figures(depth, totals, age, times.processing, times.wait)


def _add(total: Depth | Totals, row: Depth | Totals) -> None:
    for each in fields(row):
        setattr(total, each.name, getattr(total, each.name) + getattr(row, each.name))
