"""Granting leases, and giving back those that never reached their worker."""

import asyncio
from collections.abc import Coroutine, Sequence
from hashlib import blake2b
from random import Random
from typing import Any, TypeVar

from towline_broker.core import tokens
from towline_broker.core.calls import QueueWeight, ReserveCall, WorkerKey
from towline_broker.core.claiming import Claims, Granted
from towline_broker.core.clock import Clock
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.queue_options import RuleBook
from towline_broker.core.repeats import Repeats
from towline_broker.core.settings import CoreSettings
from towline_broker.core.statistics import Timings
from towline_broker.core.stores import LOST_NEWS, Store, Stores
from towline_broker.core.waiting import ReserveLine, Waiter, WaitLimit
from towline_broker.core.workers import Workers
from towline_broker.domain.errors import Draining, StoreError
from towline_broker.domain.jobs import Leased, LeaseRef, Settlement
from towline_broker.domain.time import SECOND, Micros
from towline_broker.drivers.interface import NackBatch, NackItem, Settled

T = TypeVar("T")

#: How soon a waiting Reserve asks a store again that gave no answer while others did: it may have
#: told of jobs before it was back.
ASK_AGAIN: Micros = 1 * SECOND


class Leasing:
    def __init__(
        self,
        stores: Stores,
        clock: Clock,
        settings: CoreSettings,
        rules: RuleBook,
        owned: OwnedTasks,
        line: ReserveLine,
        limit: WaitLimit,
        workers: Workers,
        timings: Timings,
        rng: Random,
    ) -> None:
        self._stores = stores
        self._claims = Claims(stores, rules)
        self._clock = clock
        self._settings = settings
        self._owned = owned
        self._at_once = all(store.at_once for store in stores.all)
        self._run = owned.run_at_once if self._at_once else owned.run
        self._line = line
        self._limit = limit
        self._workers = workers
        self._timings = timings
        self._rng = rng
        self._repeats = Repeats()
        self._draining = False

    async def reserve(self, call: ReserveCall, *, has_place: bool = False) -> list[Leased]:
        """Leases jobs, waiting for them up to ``call.wait``; may answer with none.

        ``has_place``: its caller takes up a place among those who wait, whether or not this waits.

        When the caller is cancelled, leases that were granted meanwhile are given back.

        Raises Draining, TooManyWaiters, StoreError.
        """
        if self._draining:
            raise Draining
        if call.worker_id:
            self._workers.reserving(call.worker, [choice.name for choice in call.queues])
        deadline = self._clock.now() + call.wait if call.wait > 0 else 0
        request_id = _scoped(call)
        waiter = Waiter(_order(call.queues, self._rng), call.max_jobs, request_id)
        if request_id:
            self._repeats.supersede(request_id, waiter)
        try:
            if call.wait <= 0:
                return await self._claim(call, waiter)
            if has_place:
                return await self._wait_and_claim(call, waiter, deadline)
            with self._limit:
                return await self._wait_and_claim(call, waiter, deadline)
        finally:
            if request_id:
                self._repeats.finished(request_id, waiter)

    def own(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """A task that is never cancelled, and that the broker waits for at its end: of who is to
        call :meth:`claim`."""
        return self._owned.start(work)

    async def claim(self, call: ReserveCall) -> list[Leased]:
        """Leases jobs that are ready, for a task of :meth:`own`: nobody else has to see to it that
        none is lost. The call has no request id. Raises Draining, StoreError."""
        if self._draining:
            raise Draining
        worker = call.worker
        self._workers.reserving(worker, [choice.name for choice in call.queues])
        grant = tokens.new_grant(call.holder)
        granted = await self._claims.ask(call, _order(call.queues, self._rng), grant, "")
        self._note(worker, granted, new=True)
        return granted.leases

    async def give_back(self, leases: Sequence[Leased]) -> None:
        """Releases leases whose delivery failed, unless a repeated call has delivered them."""
        refs = [each.ref for each in leases if not self._repeats.delivered_again(each.ref)]
        await self.take_back(refs)

    async def take_back(self, refs: Sequence[LeaseRef]) -> None:
        """Releases these leases, as far as they are live. Raises StoreError."""
        if not refs:
            return
        self._repeats.taken_back(refs)
        await self._owned.run(self._release(refs))

    async def _release(self, refs: Sequence[LeaseRef]) -> None:
        try:
            await self._stores.split(refs, lambda ref: ref.queue, self._release_in)
        except StoreError:
            self._repeats.not_taken_back(refs)
            raise
        self._workers.settled(refs)

    async def _release_in(self, store: Store, refs: Sequence[LeaseRef]) -> Sequence[Settled]:
        now = store.clock.now()
        nacks = [NackItem(ref, Settlement.RELEASED) for ref in refs]
        return await store.driver.nack(NackBatch(nacks, now, now + self._settings.settle_memory))

    def drain(self) -> None:
        """No new leases from here on; parked calls are answered with none."""
        self._draining = True
        self._line.wake_all()

    async def _wait_and_claim(
        self, call: ReserveCall, waiter: Waiter, deadline: Micros
    ) -> list[Leased]:
        """Joins the line before it looks, so that no job can arrive unseen between the two."""
        if self._at_once and (leases := await self._claim(call, waiter)):
            return leases  # to look is cheaper than to stand in line for it
        self._line.join(waiter)
        # A timer, for the clock may be set back meanwhile, if it follows that of a store.
        timer = self._clock.call_at(deadline, waiter.end)
        try:
            while not self._draining and not waiter.superseded:
                began = self._clock.now()
                leases = await self._claim(call, waiter)
                self._line.looked(waiter)
                if leases:
                    return leases
                await self._stirred(waiter, began)
                if waiter.over and not waiter.woken:
                    break
                self._line.join(waiter, first=True)
            return []
        finally:
            timer.cancel()
            self._line.leave(waiter)
            self._line.pass_on(waiter)

    async def _stirred(self, waiter: Waiter, looked: Micros) -> None:
        """Returns when there is a reason to look again, after a look that began then and found
        nothing.

        Who waits for a store that does not tell of every job, or has just given no answer, has to
        ask it again before long. Where it is only that news can be lost, one look is for all who
        wait for the same queues; the next is up to half as late again, or all would come at once.
        """
        interval = self._stores.poll_interval(waiter.queues)
        in_common = interval == LOST_NEWS and not waiter.unheard
        if waiter.unheard:
            interval = ASK_AGAIN if interval is None else min(interval, ASK_AGAIN)
        if interval is None:
            await waiter.stirred(self._clock, None)
            return
        if in_common:
            self._line.looked_in_vain(waiter, looked)
        look_at = self._clock.now() + interval
        while True:
            await waiter.stirred(self._clock, look_at)
            if waiter.woken or waiter.over or not in_common:
                return
            last = self._line.last_in_vain(waiter.queues)
            # The clock may have been set back meanwhile.
            if last is None or not 0 <= self._clock.now() - last < interval:
                return
            waiter.reset()
            look_at = last + interval + self._rng.randrange(interval // 2)

    async def _claim(self, call: ReserveCall, waiter: Waiter) -> list[Leased]:
        while True:
            leases, repeated = await self._ask_stores(call, waiter)
            if not repeated:
                return leases
            held = self._repeats.still_held(leases)
            if held:
                self._repeats.repeated(held)
                return held

    async def _ask_stores(self, call: ReserveCall, waiter: Waiter) -> tuple[list[Leased], bool]:
        """The leases, and whether they are those of an earlier call with the same request id."""
        grant = tokens.new_grant(call.holder)
        owed_before = dict(waiter.owed) if waiter.owed else {}

        async def give_back_ours(granted: Granted) -> None:
            """What an earlier call was granted may have reached its worker."""
            await self.give_back([leased for leased in granted.leases if leased.ref.grant == grant])

        granted = await self._run(
            self._claims.ask(call, waiter.queues, grant, waiter.request_id), give_back_ours
        )
        leases = granted.leases
        waiter.unheard = bool(granted.silent)
        repeated = bool(leases) and leases[0].ref.grant != grant
        if not repeated and waiter.owed:
            queues = [leased.ref.queue for leased in leases]
            full = granted.unasked or _is_full(call, leases)
            waiter.took(queues, owed_before, full=full)
        if leases:
            self._note(call.worker, granted, new=not repeated)
        return leases, repeated

    def _note(self, worker: WorkerKey, granted: Granted, *, new: bool) -> None:
        for part in granted.parts:
            if new:
                self._timings.started(part.leases, part.now)
            part.store.upkeep.no_later_than(min([leased.lease_until for leased in part.leases]))
            if worker.id:
                self._workers.leased(worker, part.leases)


def _is_full(call: ReserveCall, leases: Sequence[Leased]) -> bool:
    """Whether there may be more than the call could take."""
    if len(leases) >= call.max_jobs:
        return True
    return call.max_bytes is not None and call.max_bytes <= sum(
        len(each.envelope) for each in leases
    )


def _scoped(call: ReserveCall) -> str:
    """Two workers that happen to use the same request id do not get each other's leases, nor does
    one identity get those of another. A worker's id has no spaces, so the two parts cannot be
    mistaken."""
    if not call.request_id:
        return ""
    asked = call.request_id
    if call.holder:  # stores keep no more than a worker's id and a caller's request id
        asked = blake2b(f"{call.holder} {asked}".encode(), digest_size=16).hexdigest()
    return f"{call.worker_id} {asked}"


def _order(queues: Sequence[QueueWeight], rng: Random) -> list[str]:
    """As listed without weights; else a random order in which weight is the chance to come
    earlier.

    The keys are those of Efraimidis and Spirakis, "Weighted random sampling with a reservoir"
    (2006).
    """
    if len(queues) == 1 or not any(choice.weight for choice in queues):
        return [choice.name for choice in queues]
    keyed = [(rng.random() ** (1 / choice.weight), choice.name) for choice in queues]
    return [name for _, name in sorted(keyed, reverse=True)]
