"""Granting leases, and giving back those that never reached their worker."""

from collections import OrderedDict
from collections.abc import Sequence
from random import Random

from towline_broker.core import tokens
from towline_broker.core.calls import QueueWeight, ReserveCall
from towline_broker.core.clock import Clock
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.settings import CoreSettings
from towline_broker.core.statistics import Timings
from towline_broker.core.upkeep import Upkeep
from towline_broker.core.waiting import ReserveLine, Waiter, WaitLimit
from towline_broker.core.workers import Workers
from towline_broker.domain.errors import Draining
from towline_broker.domain.jobs import Leased, Settlement
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Driver, NackBatch, NackItem, ReserveRequest


class Leasing:
    def __init__(
        self,
        driver: Driver,
        clock: Clock,
        settings: CoreSettings,
        owned: OwnedTasks,
        upkeep: Upkeep,
        line: ReserveLine,
        limit: WaitLimit,
        workers: Workers,
        timings: Timings,
        rng: Random,
    ) -> None:
        self._driver = driver
        self._clock = clock
        self._settings = settings
        self._owned = owned
        self._upkeep = upkeep
        self._line = line
        self._limit = limit
        self._workers = workers
        self._timings = timings
        self._rng = rng
        self._repeats = Repeats()
        self._draining = False

    async def reserve(self, call: ReserveCall) -> list[Leased]:
        """Leases jobs, waiting for them up to ``call.wait``; may answer with none.

        When the caller is cancelled, leases that were granted meanwhile are given back.

        Raises Draining, TooManyWaiters, StoreError.
        """
        if self._draining:
            raise Draining
        self._workers.reserving(call.worker_id, [choice.name for choice in call.queues])
        deadline = self._clock.now() + call.wait
        waiter = Waiter(_order(call.queues, self._rng), call.max_jobs)
        self._repeats.supersede(call.request_id, waiter)
        try:
            if call.wait <= 0:
                return await self._claim(call, waiter)
            with self._limit:
                return await self._wait_and_claim(call, waiter, deadline)
        finally:
            self._repeats.finished(call.request_id, waiter)

    async def give_back(self, leases: Sequence[Leased]) -> None:
        """Releases leases whose delivery failed, unless a repeated call has delivered them."""
        grants = {leased.ref.grant for leased in leases}
        lost = {grant for grant in grants if not self._repeats.delivered_again(grant)}
        refs = [leased.ref for leased in leases if leased.ref.grant in lost]
        if not refs:
            return
        now = self._clock.now()
        nacks = [NackItem(ref, Settlement.RELEASED) for ref in refs]
        batch = NackBatch(nacks, now, now + self._settings.settle_memory)
        await self._owned.run(self._driver.nack(batch))
        self._workers.settled(ref.job_id for ref in refs)

    def drain(self) -> None:
        """No new leases from here on; parked calls are answered with none."""
        self._draining = True
        self._line.wake_all()

    async def _wait_and_claim(
        self, call: ReserveCall, waiter: Waiter, deadline: Micros
    ) -> list[Leased]:
        """Joins the line before it looks, so that no job can arrive unseen between the two."""
        self._line.join(waiter)
        content = False
        try:
            while not self._draining and not waiter.superseded:
                leases = await self._claim(call, waiter)
                if leases:
                    # Further jobs of these queues are for the next in line: those that did not
                    # fit, and one that woke this waiter but came after its claim.
                    content = len(leases) < call.max_jobs and not waiter.woken
                    return leases
                await waiter.until(self._clock, deadline)
                if not waiter.woken:
                    break
                self._line.join(waiter, first=True)
            return []
        finally:
            self._line.leave(waiter)
            if not content:
                self._line.pass_on(waiter)

    async def _claim(self, call: ReserveCall, waiter: Waiter) -> list[Leased]:
        now = self._clock.now()
        grant = tokens.new_grant()
        request = ReserveRequest(
            queues=waiter.queues,
            max_jobs=call.max_jobs,
            lease=self._settings.default_lease if call.lease is None else call.lease,
            grant=grant,
            now=now,
            worker_id=call.worker_id,
            request_id=call.request_id,
        )
        leases = await self._owned.run(self._driver.reserve(request), self.give_back)
        if not leases:
            return leases
        if leases[0].ref.grant == grant:
            self._timings.started(leases, now)
        else:
            self._repeats.repeated(leases[0].ref.grant)
        self._workers.leased(call.worker_id, leases)
        self._upkeep.no_later_than(min(leased.lease_until for leased in leases))
        return leases


class Repeats:
    """Keeps repeated Reserves (same ``request_id``) from working against each other.

    A client repeats a call whose answer it missed, while this broker may still hold the first one
    parked, or may be about to take back what the first one was granted.
    """

    #: Grants kept in mind; far more than can be between two deliveries at any moment.
    MOST = 10_000

    def __init__(self) -> None:
        self._parked: dict[str, Waiter] = {}
        self._deliveries: OrderedDict[str, int] = OrderedDict()

    def supersede(self, request_id: str, waiter: Waiter) -> None:
        """The earlier call goes home with nothing: nobody listens to its answer."""
        if request_id:
            earlier = self._parked.get(request_id)
            self._parked[request_id] = waiter
            if earlier is not None:
                earlier.superseded = True
                earlier.wake()

    def finished(self, request_id: str, waiter: Waiter) -> None:
        if self._parked.get(request_id) is waiter:
            del self._parked[request_id]

    def repeated(self, grant: str) -> None:
        """The leases of this grant go out once more."""
        self._deliveries[grant] = self._deliveries.pop(grant, 0) + 1
        if len(self._deliveries) > self.MOST:
            self._deliveries.popitem(last=False)

    def delivered_again(self, grant: str) -> bool:
        """Whether one failed delivery of this grant is made up for by a later one."""
        again = self._deliveries.get(grant, 0)
        if again == 0:
            return False
        self._deliveries[grant] = again - 1
        return True


def _order(queues: Sequence[QueueWeight], rng: Random) -> list[str]:
    """As listed without weights; else a random order in which weight is the chance to come
    earlier.

    The keys are those of Efraimidis and Spirakis, "Weighted random sampling with a reservoir"
    (2006).
    """
    if not any(choice.weight for choice in queues):
        return [choice.name for choice in queues]
    keyed = [(rng.random() ** (1 / choice.weight), choice.name) for choice in queues]
    return [name for _, name in sorted(keyed, reverse=True)]
