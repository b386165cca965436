"""Granting leases, and giving back those that never reached their worker."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
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
from towline_broker.domain.errors import Draining, StoreError
from towline_broker.domain.jobs import Leased, LeaseRef, Settlement
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
        self._repeats.supersede(_scoped(call), waiter)
        try:
            if call.wait <= 0:
                return await self._claim(call, waiter)
            with self._limit:
                return await self._wait_and_claim(call, waiter, deadline)
        finally:
            self._repeats.finished(_scoped(call), waiter)

    async def give_back(self, leases: Sequence[Leased]) -> None:
        """Releases leases whose delivery failed, unless a repeated call has delivered them."""
        grants = {leased.ref.grant for leased in leases}
        lost = {grant for grant in grants if not self._repeats.delivered_again(grant)}
        refs = [leased.ref for leased in leases if leased.ref.grant in lost]
        if not refs:
            return
        self._repeats.taken_back(refs)
        await self._owned.run(self._release(refs))

    async def _release(self, refs: Sequence[LeaseRef]) -> None:
        now = self._clock.now()
        nacks = [NackItem(ref, Settlement.RELEASED) for ref in refs]
        try:
            await self._driver.nack(NackBatch(nacks, now, now + self._settings.settle_memory))
        except StoreError:
            self._repeats.not_taken_back(refs)
            raise
        self._workers.settled(refs)

    def drain(self) -> None:
        """No new leases from here on; parked calls are answered with none."""
        self._draining = True
        self._line.wake_all()

    async def _wait_and_claim(
        self, call: ReserveCall, waiter: Waiter, deadline: Micros
    ) -> list[Leased]:
        """Joins the line before it looks, so that no job can arrive unseen between the two."""
        self._line.join(waiter)
        try:
            while not self._draining and not waiter.superseded:
                leases = await self._claim(call, waiter)
                if leases:
                    return leases
                await waiter.until(self._clock, deadline)
                if not waiter.woken:
                    break
                self._line.join(waiter, first=True)
            return []
        finally:
            self._line.leave(waiter)
            self._line.pass_on(waiter)

    async def _claim(self, call: ReserveCall, waiter: Waiter) -> list[Leased]:
        while True:
            leases, repeated = await self._ask_store(call, waiter)
            if not repeated:
                return leases
            held = self._repeats.still_held(leases)
            if held:
                self._repeats.repeated(held[0].ref.grant)
                return held

    async def _ask_store(self, call: ReserveCall, waiter: Waiter) -> tuple[list[Leased], bool]:
        """The leases, and whether they are those of an earlier call with the same request id."""
        now = self._clock.now()
        grant = tokens.new_grant()
        owed_before = waiter.owed.copy()
        request = ReserveRequest(
            queues=waiter.queues,
            max_jobs=call.max_jobs,
            lease=self._settings.default_lease if call.lease is None else call.lease,
            grant=grant,
            now=now,
            worker_id=call.worker_id,
            request_id=_scoped(call),
            max_bytes=call.max_bytes,
        )

        async def give_back_ours(leases: Sequence[Leased]) -> None:
            """What an earlier call was granted may have reached its worker."""
            await self.give_back([leased for leased in leases if leased.ref.grant == grant])

        leases = await self._owned.run(self._driver.reserve(request), give_back_ours)
        repeated = bool(leases) and leases[0].ref.grant != grant
        if not repeated:
            queues = [leased.ref.queue for leased in leases]
            waiter.took(queues, owed_before, full=_is_full(call, leases))
            self._timings.started(leases, now)
        if leases:
            self._workers.leased(call.worker_id, [leased.ref for leased in leases])
            self._upkeep.no_later_than(min(leased.lease_until for leased in leases))
        return leases, repeated


class Repeats:
    """Keeps repeated Reserves (same ``request_id``) from working against each other.

    A client repeats a call whose answer it missed, while this broker may still hold the first one
    parked, or may be about to take back what the first one was granted.
    """

    #: Grants, and leases taken back, kept in mind; far more than can be under way at any moment.
    MOST = 10_000

    def __init__(self) -> None:
        self._parked: dict[str, Waiter] = {}
        self._deliveries: OrderedDict[str, int] = OrderedDict()
        self._taken_back: OrderedDict[LeaseRef, None] = OrderedDict()

    def supersede(self, request_id: str, waiter: Waiter) -> None:
        """The earlier call goes home with nothing: nobody listens to its answer."""
        if request_id:
            earlier = self._parked.get(request_id)
            self._parked[request_id] = waiter
            if earlier is not None:
                earlier.superseded = True
                earlier.stir()

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

    def taken_back(self, refs: Iterable[LeaseRef]) -> None:
        """From here on these leases are no longer for anybody."""
        self._taken_back.update(dict.fromkeys(refs))
        while len(self._taken_back) > self.MOST:
            self._taken_back.popitem(last=False)

    def not_taken_back(self, refs: Iterable[LeaseRef]) -> None:
        """It did not succeed, as far as is known."""
        for ref in refs:
            self._taken_back.pop(ref, None)

    def still_held(self, leases: Iterable[Leased]) -> list[Leased]:
        """Those that were not taken back while the store was asked for them."""
        return [leased for leased in leases if leased.ref not in self._taken_back]


def _is_full(call: ReserveCall, leases: Sequence[Leased]) -> bool:
    """Whether there may be more than the call could take."""
    if call.max_bytes is not None and sum(len(each.envelope) for each in leases) >= call.max_bytes:
        return True
    return len(leases) >= call.max_jobs


def _scoped(call: ReserveCall) -> str:
    """Two workers that happen to use the same request id do not get each other's leases. A worker's
    id has no spaces, so the two parts cannot be mistaken."""
    return f"{call.worker_id} {call.request_id}" if call.request_id else ""


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
