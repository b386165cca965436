"""The memory engine: every verb of the driver interface as a plain function call.

It is synchronous and pure: no clock, no event loop, no file, no randomness. The same calls in the
same order always give the same state and the same answers. Each call takes place as a whole or
raises before it has changed anything. The obligations are those of
:mod:`towline_broker.drivers.interface`.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

from towline_broker.domain.errors import InvalidField, QueueNotFound, StoreFull
from towline_broker.domain.jobs import (
    Counts,
    DeadReason,
    JobPage,
    JobRecord,
    JobState,
    LeaseRecord,
    LeaseRef,
    Settlement,
)
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    CancelOutcome,
    CancelRequest,
    CopyPage,
    DeadQuery,
    DeadSelection,
    Handled,
    JobQuery,
    PurgeRequest,
    PushBatch,
    PushOutcome,
    PushResult,
    QueueState,
    Standing,
    Transfer,
)
from towline_broker.drivers.memory import arrivals, transfers
from towline_broker.drivers.memory.changes import Changes
from towline_broker.drivers.memory.dead import BEFORE_ALL, Death
from towline_broker.drivers.memory.events import Events
from towline_broker.drivers.memory.leasing import Leasing
from towline_broker.drivers.memory.planning import PushPlan
from towline_broker.drivers.memory.queue import Queue
from towline_broker.drivers.memory.records import Job, cost_received
from towline_broker.drivers.memory.state import State

#: Most jobs that one call of list_jobs looks at.
LOOK_LIMIT = 10_000


class Engine(Leasing):
    def __init__(self, max_bytes: int | None = None, state: State | None = None) -> None:
        """``max_bytes``: push raises StoreFull rather than let the store outgrow this, roughly.
        ``state``: what to begin with, if not with nothing."""
        super().__init__(state or State())
        self._max_bytes = max_bytes

    @property
    def state(self) -> State:
        """To be looked at by whoever records its changes."""
        return self._state

    def take_events(self) -> Events:
        """What has happened since the last call."""
        events, self._state.events = self._state.events, Events()
        return events

    def take_changes(self) -> Changes:
        """What has changed since the last call; the first one begins the watch."""
        changes = self._state.changes or Changes()
        self._state.watch(Changes())
        return changes

    # --- jobs ---------------------------------------------------------------------------------

    def push(self, batch: PushBatch) -> list[PushResult]:
        if arrivals.can_come_together(self._state, batch):
            self._need_room(arrivals.size_of(batch.jobs))
            arrivals.add(self._state, batch.jobs, batch.now)
            created = PushOutcome.CREATED
            return [PushResult(new.id, created) for new in batch.jobs]
        plan = PushPlan(self._state, batch)
        results = [plan.place(new) for new in batch.jobs]
        self._need_room(plan.size)
        for new in plan.created:
            self._state.add(new, batch.now)
        return results

    def _need_room(self, size: int) -> None:
        limit = self._max_bytes
        if limit is not None and size and self._state.size + size > limit:
            raise StoreFull(
                "memory", f"the memory store holds its limit of {limit} bytes (max_bytes)"
            )

    def get(self, job_id: str) -> JobRecord | None:
        job = self._state.jobs.get(job_id)
        return job.record() if job is not None else self._state.memory.record(job_id)

    def list_jobs(self, query: JobQuery) -> JobPage:
        records: list[JobRecord] = []
        jobs = self._state.in_push_order.after(0 if query.cursor is None else _number(query.cursor))
        for looked, (number, job) in enumerate(jobs, start=1):
            if _matches(job, query):
                records.append(job.record())
            if len(records) >= query.limit or looked >= LOOK_LIMIT:
                return JobPage(records, str(number))
        return JobPage(records)

    def cancel(self, request: CancelRequest) -> list[CancelOutcome]:
        return [self._cancel(job_id, request) for job_id in request.job_ids]

    def _cancel(self, job_id: str, request: CancelRequest) -> CancelOutcome:
        job = self._state.jobs.get(job_id)
        ended = self._state.memory.state(job_id) if job is None else job.state
        if ended is None:
            return CancelOutcome.NOT_FOUND
        if ended is JobState.CANCELLED:
            return CancelOutcome.CANCELLED
        if job is None or ended.ended:
            return CancelOutcome.ALREADY_ENDED
        if job.lease is not None:
            ref = LeaseRef(job.queue, job_id, job.lease.grant)
            self._state.memory.remember_lease(ref, Settlement.CANCELLED, request.remember_until)
        job.tally.totals.cancelled += 1
        self._state.finish(job, JobState.CANCELLED, request.now, request.remember_until)
        return CancelOutcome.CANCELLED

    # --- upkeep -------------------------------------------------------------------------------

    def promote(self, now: Micros, limit: int) -> int:
        job_ids = self._state.due.take_due(now, limit)
        for job_id in job_ids:
            self._state.wait(self._state.jobs[job_id], now)
        return len(job_ids)

    def expire(self, now: Micros, limit: int) -> int:
        job_ids = self._state.expiring.take_due(now, limit)
        for job_id in job_ids:
            self._state.bury(self._state.jobs[job_id], DeadReason.EXPIRED, now)
        return len(job_ids)

    def expired_leases(self, now: Micros, limit: int) -> list[LeaseRecord]:
        jobs = self._state.leases.due(now, limit)
        return [job.lease_record(job.lease) for job in jobs if job.lease is not None]

    def forget(self, now: Micros, limit: int) -> int:
        job_ids = self._state.retained.take_due(now, limit)
        for job_id in job_ids:
            self._state.remove(self._state.jobs[job_id])
        gone = len(job_ids)
        gone += self._state.memory.forget(now, limit - gone)
        gone += self._state.keys.forget(now, limit - gone)
        return gone

    def next_due(self) -> Micros | None:
        state = self._state
        times = (state.due.first_time(), state.expiring.first_time(), state.leases.first_time())
        return min((time for time in times if time is not None), default=None)

    # --- dead letters -------------------------------------------------------------------------

    def list_dead(self, query: DeadQuery) -> JobPage:
        after = BEFORE_ALL if query.cursor is None else _death(query.cursor)
        page = list(islice(self._state.dead.select(query.filter, after), query.limit))
        records = [job.record() for _, job in page]
        if len(page) < query.limit:
            return JobPage(records)
        died, number = page[-1][0]
        return JobPage(records, f"{died}.{number}")

    def count_dead(self, selection: DeadSelection) -> int:
        if selection.ids is None:
            return self._state.dead.count(selection.filter)
        return len(self._dead_by_ids(selection.ids))

    def requeue_dead(self, selection: DeadSelection) -> Handled:
        matched, jobs = self._selected(selection)
        for job in jobs:
            job.tally.totals.requeued += 1
            self._state.revive(job, selection.now)
        return Handled(matched, len(jobs))

    def discard_dead(self, selection: DeadSelection, remember_until: Micros) -> Handled:
        matched, jobs = self._selected(selection)
        for job in jobs:
            died = job.finished_at or selection.now
            self._state.remember(job, JobState.DEAD, died, remember_until)
            self._state.remove(job)
            self._state.free_key(job)
        return Handled(matched, len(jobs))

    def _selected(self, selection: DeadSelection) -> tuple[int, list[Job]]:
        """How many jobs the selection meets, and those to be handled, oldest death first."""
        if selection.ids is None:
            found = islice(self._state.dead.select(selection.filter), selection.limit)
            return self._state.dead.count(selection.filter), [job for _, job in found]
        jobs = self._dead_by_ids(selection.ids)
        return len(jobs), jobs[: selection.limit]

    def _dead_by_ids(self, ids: Sequence[str]) -> list[Job]:
        stored = (self._state.jobs.get(job_id) for job_id in dict.fromkeys(ids))
        dead = [job for job in stored if job is not None and job.state is JobState.DEAD]
        return sorted(dead, key=self._state.dead.death)

    # --- queues -------------------------------------------------------------------------------

    def queues(self, names: Iterable[str] | None = None) -> list[QueueState]:
        """Those of these names, or all, by name."""
        queues = self._state.queues
        return [
            QueueState(name, queue.paused, queue.moving_to, queue.moved)
            for name in (sorted(queues) if names is None else names)
            for queue in (queues[name],)
        ]

    def set_paused(self, name: str, paused: bool) -> bool:
        queue = self._queue(name)
        if queue.paused == paused:
            return False
        queue.paused = paused
        self._state.note_queue(name)
        if not paused:
            self._state.events.ready[name] += len(queue.ready)
        return True

    def purge(self, request: PurgeRequest) -> Handled:
        queue = self._queue(request.queue)
        matched = len(queue.ready) + len(queue.scheduled)
        jobs = list(islice(queue.ready, request.limit))
        jobs += islice(queue.scheduled, request.limit - len(jobs))
        for job in jobs:
            job.tally.totals.cancelled += 1
            self._state.purge(job, request.now, request.remember_until)
        return Handled(matched, len(jobs))

    def _queue(self, name: str) -> Queue:
        queue = self._state.queues.get(name)
        if queue is None:
            raise QueueNotFound(name)
        return queue

    # --- moving a queue -----------------------------------------------------------------------

    def copies(self, limit: int, cursor: str | None) -> CopyPage:
        jobs = self._state.in_push_order.after(0 if cursor is None else _number(cursor))
        page = list(islice(jobs, limit))
        found = [transfers.copy(self._state, job) for _, job in page]
        return CopyPage(found, str(page[-1][0]) if len(page) == limit else None)

    def seal(self, name: str, to: str | None) -> None:
        transfers.seal(self._state, name, to)

    def outgoing(self, name: str, limit: int) -> list[Transfer]:
        return transfers.outgoing(self._state, self._queue(name), limit)

    def receive(self, batch: Sequence[Transfer], now: Micros) -> int:
        fresh = transfers.fresh(self._state, batch)
        self._need_room(sum(map(cost_received, fresh)))
        transfers.receive(self._state, fresh, now)
        return len(fresh)

    def drop(self, name: str, seen: Sequence[Standing]) -> list[str]:
        return transfers.drop(self._state, name, seen)

    def forward(self, name: str) -> bool:
        return transfers.forward(self._state, self._queue(name))

    # --- figures ------------------------------------------------------------------------------

    def counts(self, of: Iterable[tuple[str, str]] | None = None) -> list[Counts]:
        """Of these pairs of queue and type, or of all, by queue and type."""
        tallies = self._state.tallies
        return [tallies[pair].counts() for pair in (sorted(tallies) if of is None else of)]

    def oldest_ready(self, names: Iterable[str] | None = None) -> dict[str, Micros]:
        """Of these queues, or of all."""
        queues = self._state.queues
        since = {
            name: queues[name].ready.ready_since() for name in (queues if names is None else names)
        }
        return {name: time for name, time in since.items() if time is not None}

    def reset_totals(self) -> None:
        for tally in self._state.tallies.values():
            tally.reset()
            self._state.note_tally(tally)


def _number(cursor: str) -> int:
    try:
        return int(cursor)
    except ValueError:
        raise InvalidField("page_token", "this store never gave such a token") from None


def _death(cursor: str) -> Death:
    died, _, number = cursor.partition(".")
    return _number(died), _number(number)


def _matches(job: Job, query: JobQuery) -> bool:
    return (
        query.queue in (None, job.queue)
        and query.type in (None, job.type)
        and (not query.states or job.state in query.states)
    )
