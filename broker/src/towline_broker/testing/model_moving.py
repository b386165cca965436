"""Moving queues, in the model."""

from collections.abc import Iterable

from msgspec.structs import replace

from towline_broker.domain.jobs import JobState
from towline_broker.drivers.interface import Standing, Transfer
from towline_broker.testing.model import Model
from towline_broker.testing.model_job import WAITING, ModelJob

KEPT = (JobState.SUCCEEDED, JobState.CANCELLED)


def seal(model: Model, queue: str, to: str | None) -> None:
    if to is not None:
        model.moving_to[queue] = to
        return
    sealed = model.moving_to.pop(queue, None)
    model.moved.discard(queue)
    if sealed is not None and model.gives(queue):
        model.told_ready[queue] += len(model.those(JobState.READY, queue=queue))


def outgoing(model: Model, queue: str) -> list[ModelJob]:
    """In one of the orders in which they may leave."""
    jobs = [job for job in model.those(*JobState, queue=queue) if job.state is not JobState.LEASED]
    return sorted(jobs, key=place_of)


def place_of(job: ModelJob) -> tuple[int, int, int]:
    """Jobs of which this is the same leave in any order."""
    if job.state is JobState.READY:
        return 0, -job.new.priority, job.place
    if job.state is JobState.SCHEDULED:
        return 1, job.available_at, job.place
    if job.state is JobState.DEAD:
        return 2, job.finished_at or 0, 0
    return 3, 0, 0


def transfer(model: Model, job: ModelJob) -> Transfer:
    key = (job.new.queue, job.new.unique_key or "")
    holder, until = model.keys.get(key, (None, None))
    holds_key = holder == job.id and (until is None or until > model.now)
    may_expire = job.state in WAITING and job.attempt == 0
    new = replace(
        job.new,
        due_at=None,
        expires_at=job.expires_at if may_expire else None,
        unique_until=until if holds_key else None,
    )
    keep_until = (job.finished_at or 0) + job.new.retention if job.state in KEPT else None
    return Transfer(new, job.record(), holds_key, keep_until)


def without_old_key(model: Model, one: Transfer) -> Transfer:
    """A store may or may not call a key held whose time is over."""
    until = one.new.unique_until
    if until is None or until > model.now:
        return one
    return replace(one, new=replace(one.new, unique_until=None), holds_key=False)


def receive(model: Model, transfers: Iterable[Transfer]) -> int:
    known = {job.id for job in model.jobs} | set(model.ended_jobs)
    received = 0
    for one in transfers:
        if one.new.id not in known:
            known.add(one.new.id)
            _receive(model, one)
            received += 1
    return received


def _receive(model: Model, one: Transfer) -> None:
    new, record = one.new, one.record
    model.places += 1
    job = ModelJob(
        new,
        record.enqueued_at,
        new.expires_at,
        record.state,
        model.places,
        record.attempt,
        record.releases,
        available_at=record.available_at or 0,
        ready_at=record.available_at or 0,
        started_at=record.started_at,
        finished_at=record.finished_at,
        failure=record.failure,
        progress=record.progress,
        dead_reason=record.dead_reason,
        result=record.result,
    )
    if record.state is JobState.READY:
        model.told_ready[new.queue] += 1
        if model.those(JobState.READY, queue=new.queue):
            model.mixed.add(new.queue)
    model.paused.setdefault(new.queue, False)
    model.jobs.append(job)
    key = (new.queue, new.unique_key or "")
    holder, until = model.keys.get(key, (None, None))
    free = holder is None or (until is not None and until <= model.now)
    if one.holds_key and free and (new.unique_until is None or new.unique_until > model.now):
        model.keys[key] = (new.id, new.unique_until)


def drop(model: Model, queue: str, seen: Iterable[Standing]) -> list[str]:
    able = {Standing.of(job.record()): job for job in outgoing(model, queue)}
    others = []
    for one in seen:
        job = able.pop(one, None)
        if job is None:
            others.append(one.job_id)
        else:
            model.drop(job)
    return others


def forward(model: Model, queue: str) -> bool:
    empty = queue in model.moving_to and not model.those(*JobState, queue=queue)
    if empty:
        model.moved.add(queue)
    return empty
