"""The core, assembled over one driver."""

from collections.abc import Sequence
from random import Random

from towline_broker.core.clock import Clock, SystemClock
from towline_broker.core.dead_letters import DeadLetters
from towline_broker.core.leasing import Leasing
from towline_broker.core.operating import Operating
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.producing import Producing
from towline_broker.core.settings import CoreSettings
from towline_broker.core.settling import Settling
from towline_broker.core.statistics import Timings
from towline_broker.core.upkeep import Upkeep
from towline_broker.core.waiting import EndWatch, ReserveLine, WaitLimit
from towline_broker.core.workers import Workers
from towline_broker.drivers.interface import Capabilities, Driver


class Broker:
    """Starts, drains and stops the rules around one driver, and hands their rooms to the services.

    ``failed`` is set when the store broke a promise that durability rests on: the process must
    end.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        clock: Clock | None = None,
        settings: CoreSettings | None = None,
        rng: Random | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        settings = settings or CoreSettings()
        rng = rng or Random()  # noqa: S311 -- jitter and fairness, no secret
        owned = OwnedTasks()
        limit = WaitLimit(settings.max_waiters)
        timings = Timings()
        workers = Workers(self.clock, settings.worker_memory, settings.max_workers)
        self._driver = driver
        self._owned = owned
        self._line = ReserveLine()
        self._watch = EndWatch()
        self._upkeep = Upkeep(driver, self.clock, settings, owned, workers)
        self.failed = owned.failed
        self.jobs = Producing(driver, self.clock, settings, owned, self._upkeep, self._watch, limit)
        self.leasing = Leasing(
            driver,
            self.clock,
            settings,
            owned,
            self._upkeep,
            self._line,
            limit,
            workers,
            timings,
            rng,
        )
        self.settling = Settling(
            driver, self.clock, settings, owned, self._upkeep, workers, timings, rng
        )
        self.dead_letters = DeadLetters(driver, self.clock, settings, owned)
        self.operating = Operating(driver, self.clock, settings, owned, workers, timings)

    @property
    def capabilities(self) -> Capabilities:
        return self._driver.capabilities

    async def start(self) -> None:
        """Raises StoreRefused, StoreUnavailable."""
        seen = await self._driver.open(self.clock.now(), self)
        self.clock.not_before(seen)
        self._upkeep.start()

    def drain(self) -> None:
        """No new work from here on, and parked calls are answered. Settling goes on until
        :meth:`stop`."""
        self.jobs.drain()
        self.leasing.drain()

    async def stop(self) -> None:
        """Drains, finishes what is under way and closes the store."""
        self.drain()
        await self._upkeep.stop()
        await self._owned.settle()
        await self._driver.close()

    # The driver's listener.

    def jobs_ready(self, queue: str, count: int) -> None:
        self._line.wake(queue, count)

    def jobs_ended(self, job_ids: Sequence[str]) -> None:
        self._watch.ended(job_ids)
