"""New jobs that only wait for a worker, the whole of a Push at once.

Most are of this kind. What must hold for each of them is the same as if they had come one after the
other, by way of :class:`~towline_broker.drivers.memory.planning.PushPlan`; but they are put into
each index together.
"""

from collections import Counter
from collections.abc import Sequence

from towline_broker.domain.jobs import NewJob
from towline_broker.domain.retry import DEFAULT_POLICY
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import PushBatch
from towline_broker.drivers.memory.records import JOB_OVERHEAD, READY, Job, Tally, by_tally
from towline_broker.drivers.memory.state import State


def can_come_together(state: State, batch: PushBatch) -> bool:
    """Whether there are several, all of them new and READY from now on, and may be stored."""
    jobs = batch.jobs
    ids = [new.id for new in jobs]
    if len(jobs) < 2 or len(set(ids)) < len(ids):
        return False
    if not state.jobs.both_lack_all(state.memory.jobs, ids):
        return False
    for new in jobs:
        if new.due_at is not None or new.expires_at is not None or new.unique_key is not None:
            return False
    queues = [new.queue for new in jobs]
    if queues.count(queues[0]) == len(jobs):
        return _has_room(state, queues[0], len(jobs), batch.max_depth.get(queues[0]))
    return all(
        _has_room(state, queue, coming, batch.max_depth.get(queue))
        for queue, coming in Counter(queues).items()
    )


def _has_room(state: State, name: str, coming: int, limit: int | None) -> bool:
    queue = state.queues.get(name)
    if queue is None:
        return limit is None or coming <= limit
    return not queue.moved and (limit is None or queue.live + coming <= limit)


def size_of(jobs: Sequence[NewJob]) -> int:
    """About how many bytes of memory they will take."""
    return JOB_OVERHEAD * len(jobs) + sum([len(new.envelope) for new in jobs])


def add(state: State, coming: Sequence[NewJob], now: Micros) -> None:
    """Jobs for which :func:`can_come_together` has said so."""
    jobs = _made(state, coming, now)
    state.jobs.put_all([job.id for job in jobs], jobs)
    first = jobs[0].number
    state.in_push_order.extend(list(zip(range(first, first + len(jobs)), jobs, strict=True)))
    for tally, count in by_tally(jobs).items():
        tally.totals.pushed += count
        tally.depth[READY] += count
    lines: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        lines.setdefault((job.queue, job.priority), []).append(job)
    for (name, priority), waiting in lines.items():
        queue = state.queues[name]
        queue.ready.extend(priority, waiting)
        queue.live += len(waiting)
        state.events.ready[name] += len(waiting)
    state.grow(size_of(coming))
    if state.changes is not None:
        state.changes.note_pushed(jobs)


def _made(state: State, coming: Sequence[NewJob], now: Micros) -> list[Job]:
    """The jobs, which are in no index yet."""
    made: list[Job] = []
    number, behind = state.pushes, state.places
    tally: Tally | None = None
    policy = shared = DEFAULT_POLICY
    for new in coming:
        queue, type_ = new.queue, new.type
        if tally is None or type_ != tally.type or queue != tally.queue:
            tally = state.tally(queue, type_)
        if new.retry is not policy:
            policy = new.retry
            shared = state.shared(policy)
        number += 1
        behind += 1
        job = Job(
            new.id,
            tally.queue,
            tally,
            new.envelope,
            new.priority,
            number,
            behind,
            now,
            now,
            None,
            new.retention,
            None,
            None,
            shared,
            JOB_OVERHEAD + len(new.envelope),
        )
        made.append(job)
    state.pushes, state.places = number, behind
    return made
