"""Moving a queue to another store, and taking in one that comes from there."""

import sys
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from msgspec.structs import replace

from towline_broker.domain.errors import QueueNotFound
from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Copy, DeadFilter, Standing, Transfer
from towline_broker.drivers.memory.queue import Queue
from towline_broker.drivers.memory.records import Job
from towline_broker.drivers.memory.state import State

#: How far into the agenda of all SCHEDULED jobs is looked at first.
FIRST_LOOK = 1_000


def seal(state: State, name: str, to: str | None) -> None:
    """None: home again. Raises QueueNotFound, but not for None."""
    queue = state.queues.get(name)
    if queue is not None:
        state.seal(queue, to or "")
    elif to is not None:
        raise QueueNotFound(name)


def outgoing(state: State, queue: Queue, limit: int) -> list[Transfer]:
    jobs = chain(
        queue.ready,
        _by_time(state, queue),
        (job for _, job in state.dead.select(DeadFilter(queue=queue.name))),
        _kept(state, queue),
    )
    return [_transfer(state, job) for job in islice(jobs, limit)]


def _by_time(state: State, queue: Queue) -> Iterator[Job]:
    """Looks at no more of the agenda than is asked for: there may be a million jobs on it."""
    seen, look, found = 0, FIRST_LOOK, 0
    while found < len(queue.scheduled):
        job_ids = state.due.due(sys.maxsize, look)
        for job_id in job_ids[seen:]:
            job = state.jobs[job_id]
            if job.queue == queue.name:
                found += 1
                yield job
        seen, look = look, look * 4


def _kept(state: State, queue: Queue) -> Iterator[Job]:
    jobs = (state.jobs[job_id] for job_id in state.retained)
    return (job for job in jobs if job.queue == queue.name)


def copy(state: State, job: Job) -> Copy:
    return Copy(_transfer(state, job), job.place)


def _transfer(state: State, job: Job) -> Transfer:
    new = job.new
    waits = job.state in (JobState.SCHEDULED, JobState.READY)
    kept = job.state in (JobState.SUCCEEDED, JobState.CANCELLED)
    holds_key = state.holds_key(job)
    return Transfer(
        replace(
            new,
            due_at=None,
            expires_at=job.expires_at if waits and job.attempt == 0 else None,
            unique_until=new.unique_until if holds_key else None,
        ),
        job.record(),
        holds_key,
        job.keep_until if kept else None,
    )


def fresh(state: State, batch: Sequence[Transfer]) -> list[Transfer]:
    """Those of the batch that are neither stored nor remembered, each once."""
    found: dict[str, Transfer] = {}
    for transfer in batch:
        job_id = transfer.new.id
        if job_id not in state.jobs and job_id not in state.memory:
            found.setdefault(job_id, transfer)
    return list(found.values())


def receive(state: State, batch: Sequence[Transfer], now: Micros) -> None:
    for transfer in batch:
        new = transfer.new
        free = (
            new.unique_key is not None and state.keys.holder(new.queue, new.unique_key, now) is None
        )
        state.receive(transfer, takes_key=transfer.holds_key and free)


def drop(state: State, name: str, seen: Sequence[Standing]) -> list[str]:
    others = []
    for one in seen:
        job = state.jobs.get(one.job_id)
        if job is not None and job.queue == name and _stands(job, one):
            state.drop(job)
        else:
            others.append(one.job_id)
    return others


def _stands(job: Job, seen: Standing) -> bool:
    if job.state is JobState.LEASED:
        return False
    return (job.state, job.attempt) == (seen.state, seen.attempt)


def forward(state: State, queue: Queue) -> bool:
    """Marks the queue as moved if it is sealed and nothing is left of it."""
    if not queue.moving_to or _holds_any(state, queue):
        return False
    state.forward(queue)
    return True


def _holds_any(state: State, queue: Queue) -> bool:
    if queue.live or state.dead.count(DeadFilter(queue=queue.name)):
        return True
    return next(_kept(state, queue), None) is not None
