"""Pushing, looking up and cancelling jobs."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from towline_broker.core.calls import JobRequest, ToStore
from towline_broker.core.clock import Clock
from towline_broker.core.finding import find, in_sight
from towline_broker.core.holding import Hold
from towline_broker.core.joining import MOST_OF_CALL, Joining
from towline_broker.core.listing import list_jobs
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.queue_options import JobDefaults, RuleBook
from towline_broker.core.settings import CoreSettings
from towline_broker.core.stores import Store, Stores
from towline_broker.core.waiting import EndWatch, WaitLimit
from towline_broker.domain.errors import (
    Busy,
    Draining,
    InvalidField,
    JobNotFound,
    QueueFull,
    QueueMoved,
    StoreFull,
    TooManyQueues,
)
from towline_broker.domain.identity import Sight
from towline_broker.domain.jobs import JobPage, JobRecord, NewJob
from towline_broker.domain.time import SECOND, Micros
from towline_broker.drivers.interface import (
    CancelOutcome,
    CancelRequest,
    Feature,
    JobQuery,
    PushBatch,
    PushOutcome,
    PushResult,
)

#: Between two looks at a job whose end somebody waits for, in a store that brokers share.
LOOK_AGAIN: Micros = 5 * SECOND


class Producing:
    def __init__(
        self,
        stores: Stores,
        clock: Clock,
        settings: CoreSettings,
        rules: RuleBook,
        owned: OwnedTasks,
        watch: EndWatch,
        limit: WaitLimit,
        hold: Hold,
    ) -> None:
        self._hold = hold
        self._stores = stores
        self._clock = clock
        self._settings = settings
        self._rules = rules
        self._owned = owned
        self._watch = watch
        self._limit = limit
        self._draining = False
        #: Pushes of a job or a few, of which none needs any other.
        self._small = {
            store: Joining(
                partial(self._push_in, store, all_or_nothing=False),
                owned,
                at_once=store.at_once,
                weigh=_weigh,
            )
            for store in stores.all
        }

    @property
    def crowded(self) -> bool:
        """Whether a Push would be refused because too many wait, whatever its queue."""
        only = self._stores.only
        if only is not None:  # each Push asks
            return self._is_crowded(only)
        return all(map(self._is_crowded, self._stores.all))

    def _is_crowded(self, store: Store) -> bool:
        return store.admission.crowded or self._small[store].crowded

    @property
    def any_defaults(self) -> bool:
        """Whether anything is set for the jobs of any queue."""
        return self._rules.any_for_jobs

    @property
    def edition(self) -> int:
        """Changes whenever what is set for queues may have changed."""
        return self._rules.edition

    def has_defaults(self, queue: str) -> bool:
        """Whether anything is set for the jobs of this queue, whatever its store offers."""
        return self.any_defaults and self._rules.of(queue).job != JobDefaults()

    def defaults_of(self, queue: str) -> JobDefaults:
        """What a job has in this queue where it says nothing itself."""
        defaults = self._rules.of(queue).job
        if defaults.retention and not self._stores.of(queue).offers(Feature.RETENTION):
            # It was made in that store when the settings were others.
            return replace(defaults, retention=None)
        return defaults

    async def push(
        self, requests: Sequence[ToStore], all_or_nothing: bool = True
    ) -> Sequence[PushResult]:
        """Raises Draining, Busy, QueueFull and TooManyQueues (only if ``all_or_nothing``),
        StoreFull, StoreError, and InvalidField for jobs that are to be stored all or not at all,
        but in several stores."""
        if self._draining:
            raise Draining
        if self._hold.any:
            await self._hold.passed(request.queue for request in requests)
        if all_or_nothing:
            self._check_one_store(requests)
        only = self._stores.only
        if only is not None and _is_small(requests, all_or_nothing):
            return await self._push_small(only, requests, all_or_nothing)
        return await self._owned.run(self._push(requests, all_or_nothing))

    async def _push_small(
        self, store: Store, requests: Sequence[ToStore], all_or_nothing: bool
    ) -> Sequence[PushResult]:
        """Together with others that come at the same time."""
        joining = self._small[store]
        if joining.crowded:
            raise Busy
        results = await joining.ask(requests)
        if all_or_nothing:
            for request, result in zip(requests, results, strict=True):
                if result.outcome is PushOutcome.CREATED:
                    continue
                if result.outcome is PushOutcome.QUEUE_FULL:
                    raise QueueFull(request.queue, self._rules.of(request.queue).max_depth)
                if result.outcome is PushOutcome.NO_NEW_QUEUE:
                    raise TooManyQueues(request.queue, self._settings.max_queues)
        return results

    async def _push(
        self, requests: Sequence[ToStore], all_or_nothing: bool
    ) -> Sequence[PushResult]:
        async def push_in(store: Store, part: Sequence[ToStore]) -> Sequence[PushResult]:
            return await self._push_in(store, part, all_or_nothing)

        for _ in self._stores.all[1:]:
            try:
                return await self._stores.split(requests, lambda request: request.queue, push_in)
            except QueueMoved as moved:
                # Another broker has moved it, perhaps more than once. Its jobs go to where it is
                # now; others, that were stored, are there already.
                await self._stores.refresh_from(self._stores.of(moved.queue))
                if all_or_nothing:
                    self._check_one_store(requests)
        return await self._stores.split(requests, lambda request: request.queue, push_in)

    async def _push_in(
        self, store: Store, requests: Sequence[ToStore], all_or_nothing: bool
    ) -> Sequence[PushResult]:
        queues = {request.queue for request in requests}
        if self._stores.any_moved and any(map(self._stores.formerly_of, queues)):
            known = await self._ended_before_a_move(requests)
            if known:
                return await self._push_others(store, requests, known, all_or_nothing)
        now = store.clock.now()
        jobs = [
            request if isinstance(request, NewJob) else _to_new_job(request, now, store.clock)
            for request in requests
        ]
        depths = {queue: self._rules.of(queue).max_depth for queue in queues}
        batch = PushBatch(jobs, now, all_or_nothing, depths)
        if store.queue_limit.covers(depths):
            results = await _give(store, batch)
        else:
            results = await store.queue_limit.push(batch, partial(_give, store))
        if jobs != requests:  # else they have no times
            times = [t for job in jobs for t in (job.due_at, job.expires_at) if t is not None]
            if times:
                store.upkeep.no_later_than(min(times))
        return results

    async def _ended_before_a_move(self, requests: Sequence[ToStore]) -> set[str]:
        """Ids that the store remembers from which their queue has moved on (P3): what has ended
        there did not come along."""
        asked = [
            (request.id, store)
            for request in requests
            for store in self._stores.formerly_of(request.queue)
            if store.offers(Feature.LOOKUP)
        ]
        found = await asyncio.gather(*(store.driver.get(job_id) for job_id, store in asked))
        return {
            job_id for (job_id, _), record in zip(asked, found, strict=True) if record is not None
        }

    async def _push_others(
        self,
        store: Store,
        requests: Sequence[ToStore],
        known: set[str],
        all_or_nothing: bool,
    ) -> Sequence[PushResult]:
        unknown = [request for request in requests if request.id not in known]
        stored = iter(await self._push_in(store, unknown, all_or_nothing) if unknown else [])
        return [
            PushResult(request.id, PushOutcome.EXISTING) if request.id in known else next(stored)
            for request in requests
        ]

    def _check_one_store(self, requests: Sequence[ToStore]) -> None:
        if not self._stores.several or not requests:
            return
        first = self._stores.of(requests[0].queue)
        for index, request in enumerate(requests):
            store = self._stores.of(request.queue)
            if store is not first:
                raise InvalidField(
                    f"jobs[{index}].queue",
                    f"{request.queue!r} is kept in store {store.name!r}, and the queue of jobs[0] "
                    f"in {first.name!r}: they cannot be stored all or not at all. Push them apart, "
                    "or set allow_partial",
                )

    async def get(self, job_id: str, wait: Micros = 0, sight: Sight = None) -> JobRecord:
        """With ``wait``, holds the answer back until the job has ended or the wait is over. A job
        out of ``sight`` is as good as none.

        Raises JobNotFound, TooManyWaiters, StoreError.
        """
        record = await self._read(job_id, sight)
        if record.state.ended or wait <= 0 or self._draining:
            return record
        with self._limit:
            woken = self._watch.add(job_id)
            try:
                return await self._read_when_ended(job_id, self._clock.now() + wait, woken, sight)
            finally:
                self._watch.remove(job_id, woken)

    async def _read_when_ended(
        self, job_id: str, deadline: Micros, woken: asyncio.Event, sight: Sight
    ) -> JobRecord:
        while True:
            woken.clear()
            record = await self._read(job_id, sight)
            now = self._clock.now()
            if record.state.ended or now >= deadline or self._draining:
                return record
            # Brokers that share a store may miss news of each other while they are cut off.
            look = min(deadline, now + LOOK_AGAIN) if self._stores.shared else deadline
            timer = self._clock.call_at(look, woken.set)
            try:
                await woken.wait()
            finally:
                timer.cancel()

    async def list_jobs(self, query: JobQuery) -> JobPage:
        """Of several stores one after the other, unless a queue is named. Raises NotSupported,
        InvalidField (page_token), StoreError."""
        return await self._owned.run(list_jobs(self._stores, query))

    async def cancel(self, job_ids: Sequence[str], sight: Sight = None) -> list[CancelOutcome]:
        """Jobs out of ``sight`` are NOT_FOUND. Raises NotSupported, StoreError."""
        return await self._owned.run(self._cancel(job_ids, sight))

    async def _cancel(self, job_ids: Sequence[str], sight: Sight) -> list[CancelOutcome]:
        seen = await in_sight(self._stores, job_ids, sight)
        outcomes = await self._cancel_seen(seen)
        return [outcomes.get(job_id, CancelOutcome.NOT_FOUND) for job_id in job_ids]

    async def _cancel_seen(self, job_ids: Sequence[str]) -> dict[str, CancelOutcome]:
        outcomes = dict.fromkeys(job_ids, CancelOutcome.NOT_FOUND)
        for store in self._stores.offering(Feature.CANCEL):
            ids = [
                each
                for each, was in outcomes.items()
                # A move that was cut off may have left a job in two stores.
                if was is CancelOutcome.NOT_FOUND or self._stores.any_moves
            ]
            if ids:
                now = store.clock.now()
                request = CancelRequest(ids, now, now + self._settings.settle_memory)
                for each, was in zip(ids, await store.driver.cancel(request), strict=True):
                    outcomes[each] = min(outcomes[each], was)  # the one that says most
        return outcomes

    def drain(self) -> None:
        """No new jobs from here on; calls that wait for an end are answered as things stand."""
        self._draining = True
        self._watch.wake_all()

    async def _read(self, job_id: str, sight: Sight) -> JobRecord:
        """Raises JobNotFound."""
        record = await self._owned.run(find(self._stores, job_id))
        if record is None or (sight is not None and not sight(record.queue)):
            raise JobNotFound(job_id)
        return record


def _weigh(request: ToStore) -> int:
    return len(request.envelope)


def _is_small(requests: Sequence[ToStore], all_or_nothing: bool) -> bool:
    """Whether it is the same for it to be stored together with others."""
    return len(requests) == 1 or (not all_or_nothing and len(requests) <= MOST_OF_CALL)


async def _give(store: Store, batch: PushBatch) -> Sequence[PushResult]:
    admission, jobs = store.admission, len(batch.jobs)
    began = admission.enter(jobs)
    if began is None:
        began = await admission.wait(jobs)
    try:
        results = await store.driver.push(batch)
    except StoreFull as full:
        store.room.failed(full)
        raise
    finally:
        admission.leave(jobs, began)
    store.room.works()
    return results


def _to_new_job(request: JobRequest, now: Micros, clock: Clock) -> NewJob:
    due_at = None if request.run_at is None else clock.of_date(request.run_at)
    if request.delay is not None:
        due_at = now + request.delay
    expires_in, unique_for = request.expires_in, request.unique_for
    return NewJob(
        id=request.id,
        queue=request.queue,
        type=request.type,
        envelope=request.envelope,
        priority=request.priority,
        due_at=due_at if due_at is not None and due_at > now else None,
        expires_at=None if expires_in is None else now + expires_in,
        retention=request.retention,
        unique_key=request.unique_key,
        unique_until=None if unique_for is None else now + unique_for,
        retry=request.retry,
    )
