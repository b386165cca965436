"""What has to happen because time passes: promotion, expiry, lost leases, forgetting."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from towline_broker.core.clock import Clock
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.retrying import after_lost_lease
from towline_broker.core.settings import CoreSettings
from towline_broker.core.standstill import MARGIN, StandstillWatch
from towline_broker.core.workers import Workers
from towline_broker.domain.errors import StoreFailed, StoreUnavailable
from towline_broker.domain.events import event
from towline_broker.domain.jobs import Failure, LeaseRecord, Settlement
from towline_broker.domain.outage import Outage
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    Driver,
    ExtendBatch,
    ExtendItem,
    NackBatch,
    NackItem,
)

log = logging.getLogger("towline.broker")

LOST_LEASE = Failure(
    "LeaseExpired", "the lease ran out: its worker was killed, hung or was cut off"
)


class Upkeep:
    """One task that sleeps until the store's next due time, or for the longest interval."""

    def __init__(
        self,
        driver: Driver,
        clock: Clock,
        settings: CoreSettings,
        owned: OwnedTasks,
        workers: Workers,
    ) -> None:
        self._driver = driver
        self._clock = clock
        self._settings = settings
        self._owned = owned
        self._workers = workers
        self._outage = Outage("upkeep", "upkeep waits for it", "upkeep goes on")
        self._wake = asyncio.Event()
        self._sleeps_until: Micros = 0
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._standstill = StandstillWatch(clock)
        #: How late the last round found what had fallen due.
        self.lag: Micros = 0
        #: When a round was last done to its end.
        self.came_through: Micros | None = None

    def start(self) -> None:
        # Leases of a store that brokers share run on while one of them stands still.
        if not self._driver.capabilities.shared:
            self._standstill.start()
        self._task = self._owned.start(self._run())

    async def stop(self) -> None:
        """Returns when the round that is under way has ended."""
        self._stopping = True
        self._standstill.stop()
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    def no_later_than(self, moment: Micros) -> None:
        """Something is due then. Wakes the task if it would sleep longer."""
        if moment < self._sleeps_until:
            self._wake.set()

    async def round(self) -> Micros | None:
        """Does everything that is due now; returns when the next is, None if nothing is known."""
        due = await self._driver.next_due()
        now = self._clock.now()
        self.lag = 0 if due is None else max(0, now - due)
        if due is not None and due <= now:
            await self._repeat(lambda limit: self._driver.promote(self._clock.now(), limit))
            await self._repeat(lambda limit: self._driver.expire(self._clock.now(), limit))
            await self._repeat(self._take_back)
            due = await self._driver.next_due()
        await self._repeat(lambda limit: self._driver.forget(self._clock.now(), limit))
        self._workers.forget_silent()
        self.came_through = self._clock.now()
        return due

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            # Whatever falls due before then, while the round is under way, starts another one.
            self._sleeps_until = self._clock.now() + self._settings.upkeep_interval
            try:
                due = await self.round()
            except StoreUnavailable as error:
                self._outage.failed(error)
                due = None
            except StoreFailed:
                raise
            except Exception as error:  # later ones are to be taken back all the same
                self._outage.failed(error, defect=error)
                due = None
            else:
                self._outage.works()
            await self._sleep(due)

    async def _sleep(self, due: Micros | None) -> None:
        if due is not None:
            self._sleeps_until = min(self._sleeps_until, due)
        timer = self._clock.call_at(self._sleeps_until, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _repeat(self, step: Callable[[int], Awaitable[int]]) -> None:
        """In small steps, so that calls come in between."""
        limit = self._settings.upkeep_batch
        while not self._stopping and await step(limit) >= limit:
            pass

    async def _take_back(self, limit: int) -> int:
        """Ends or prolongs leases that ran out, in the order of their deadlines."""
        stood = self._standstill.seen
        now = self._clock.now()
        past = await self._driver.expired_leases(now if stood is None else now + MARGIN, limit)
        spared = [] if stood is None else [one for one in past if stood.covers(one.lease_until)]
        kept = {one.ref for one in spared}
        lost = [one for one in past if one.lease_until <= now and one.ref not in kept]
        if spared:
            await self._prolong(spared, now)
        if lost:
            await self._settle(lost, now)
        done = len(spared) + len(lost)
        if stood is not None and done < limit:
            self._standstill.forget(stood)
        return done

    async def _prolong(self, leases: Sequence[LeaseRecord], now: Micros) -> None:
        """By a fresh full term (P10): while this process stood still nobody could have them."""
        items = [ExtendItem(lease.ref) for lease in leases]
        answers = await self._driver.extend(ExtendBatch(items, now))
        for lease, answer in zip(leases, answers, strict=True):
            if answer.lease_until is not None:
                self._workers.extended(lease.ref, answer.lease_until)
        log.warning(
            "%d leases that ran out meanwhile get a fresh term",
            len(leases),
            extra=event("leases_prolonged", count=len(leases)),
        )

    async def _settle(self, lost: Sequence[LeaseRecord], now: Micros) -> None:
        """As a Nack with the same token (P5, P8)."""
        nacks = [self._taken_back(lease, now) for lease in lost]
        answers = await self._driver.nack(NackBatch(nacks, now, now + self._settings.settle_memory))
        for lease, answer in zip(lost, answers, strict=True):
            if answer.applied:
                self._workers.settled([lease.ref])
                log.info(
                    "job %s of queue %s lost its lease at attempt %d",
                    lease.ref.job_id,
                    lease.ref.queue,
                    lease.attempt,
                    extra=event(
                        "lease_lost",
                        job=lease.ref.job_id,
                        queue=lease.ref.queue,
                        attempt=lease.attempt,
                    ),
                )

    @staticmethod
    def _taken_back(lease: LeaseRecord, now: Micros) -> NackItem:
        verdict = after_lost_lease(lease.retry, lease.attempt, now)
        failure = Failure(LOST_LEASE.type, LOST_LEASE.message, at=now)
        return NackItem(lease.ref, Settlement.LOST, verdict.due_at, verdict.dead_reason, failure)
