"""The model beside the engine: whatever the engine does, the model does at the same moment, and
both must say the same.

After a crash the store must stand as the model stood after some of its changes: after all that had
returned, and any number of those that were still being written, none of them in part.
"""

from collections.abc import Awaitable, Callable, Sequence
from copy import deepcopy
from typing import Any, TypeVar

from towline_broker.domain.jobs import (
    Depth,
    JobRecord,
    JobState,
    Leased,
    LeaseRef,
    NewJob,
    Settlement,
)
from towline_broker.domain.time import SECOND, Micros
from towline_broker.drivers.file import FileDriver
from towline_broker.drivers.interface import (
    AckBatch,
    CancelOutcome,
    CancelRequest,
    DeadFilter,
    DeadQuery,
    DeadSelection,
    Driver,
    ExtendBatch,
    Extended,
    Handled,
    JobQuery,
    NackBatch,
    PurgeRequest,
    PushBatch,
    PushResult,
    QueueState,
    ReserveRequest,
    Settled,
)
from towline_broker.drivers.memory import MemoryDriver
from towline_broker.drivers.memory.engine import Engine
from towline_broker.testing.model import Model

T = TypeVar("T")
#: One change, to be made to a model.
Step = Callable[[Model], Any]
#: Told of a difference.
Report = Callable[[str], None]
#: So often all of both is compared while the engine runs.
_COMPARED_EVERY = 24
_ALL = 100_000


class Oracle:
    """Of one store, through all lives of its broker."""

    def __init__(self, window: Micros, report: Report) -> None:
        self._report = report
        self.model = Model(0, window)
        #: As the store was opened, and all that has changed since.
        self._base: Model | None = None
        self._steps: list[Step] = []
        #: So many of the changes have been answered.
        self._answered = 0
        self._durable = False
        #: Deadlines before and after the last opening, of the leases that it renewed.
        self._before_renewal: dict[LeaseRef, tuple[Micros, Micros]] = {}
        self._renewed: dict[LeaseRef, tuple[Micros, Micros]] = {}

    def opened(self, driver: FileDriver | MemoryDriver, now: Micros) -> None:
        """Right after the driver has opened the store, before anything else."""
        if isinstance(driver, MemoryDriver):
            driver._engine = Watched(driver._engine, self)
            return
        self._durable = True
        live = driver._opened
        assert live is not None
        engine = live.engine
        self._go_on_from(engine, now)
        live.engine = Watched(engine, self)
        change: Any = self._noting(live.change)
        look: Any = self._noting(live.look)
        live.change = change  # type: ignore[method-assign]  # of this store alone
        live.look = look  # type: ignore[method-assign]  # of this store alone

    def _noting(self, method: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        async def noting(call: Callable[[Engine], Any], *args: Any) -> T:
            seen = 0

            def noted(engine: Engine) -> Any:
                nonlocal seen
                result = call(engine)
                seen = len(self._steps)
                return result

            result = await method(noted, *args)
            self._answered = max(self._answered, seen)
            return result

        return noting

    def _go_on_from(self, engine: Engine, now: Micros) -> None:
        """Finds the change after which the store stands as it does."""
        model = self._base or Model(now, self.model.window)
        renewed: dict[LeaseRef, tuple[Micros, Micros]] = {}
        found = differences = ""
        for count in range(len(self._steps) + 1):
            if count:
                self._steps[count - 1](model)
            if count >= self._answered:
                candidate = deepcopy(model)
                candidate.now = now
                self._renew(candidate, engine)
                differences = difference(engine, candidate)
                if not differences:
                    self.model, found, renewed = candidate, "yes", self._renewed
        if not found:
            self._report(
                f"after the crash the store stands as after none of the changes {self._answered} "
                f"to {len(self._steps)}; beside the last of them: {differences}"
            )
        self._before_renewal = renewed
        self._base, self._steps, self._answered = deepcopy(self.model), [], 0

    def _renew(self, model: Model, engine: Engine) -> None:
        """What the last opening had renewed may be recorded by now or not: with a clock that has
        gone back since, that makes a difference, and both are a full term."""
        before = {job.ref: job.lease_until for job in model.those(JobState.LEASED)}
        model.renew_leases()
        for job in model.those(JobState.LEASED):
            stored = self._before_renewal.get(job.ref)
            found = engine.state.jobs.get(job.id)
            if stored is None or stored[1] != before[job.ref] or found is None or not found.lease:
                continue
            if found.lease.until == max(stored[0], model.now + job.lease_length):
                job.lease_until = found.lease.until
        self._renewed = {
            job.ref: (before[job.ref], job.lease_until) for job in model.those(JobState.LEASED)
        }

    def step(self, now: Micros | None, what: str, step: Step, got: object) -> None:
        """The engine has made this change and answered ``got``."""

        def timed(model: Model) -> Any:
            if now is not None:
                model.now = now
            return step(model)

        expected = timed(self.model)
        if self._durable:
            self._steps.append(timed)
        if expected != got:
            self._report(f"{what}: the store answered {got}, expected {expected}")

    def forgets(self, now: Micros) -> bool:
        """Whether the model has something to forget at that time."""
        model = self.model
        ends = [one.until for one in model.ended_jobs.values()]
        ends += [until for _, until in model.ended_leases.values()]
        return min(ends, default=now + 1) <= now

    def compare_with(self, driver: Driver) -> None:
        if isinstance(driver, MemoryDriver):
            self.compare(driver._engine)
        elif isinstance(driver, FileDriver) and driver._opened is not None:
            self.compare(driver._opened.engine)

    def compare(self, engine: Engine) -> None:
        found = difference(engine, self.model)
        if found:
            self._report(f"the store differs from the model: {found}")


class Watched(Engine):
    """An engine whose every change the model makes, too."""

    def __init__(self, engine: Engine, oracle: Oracle) -> None:
        super().__init__(engine._max_bytes, engine.state)
        self._oracle = oracle
        self._changes = 0

    def _step(self, now: Micros | None, what: str, step: Step, got: object) -> None:
        self._oracle.step(now, what, step, got)
        self._changes += 1
        if self._changes % _COMPARED_EVERY == 0:
            self._oracle.compare(self)

    def push(self, batch: PushBatch) -> list[PushResult]:
        # One that is refused changes nothing.
        results = super().push(batch)
        self._step(batch.now, "push", lambda model: model.push(batch), results)
        return results

    def cancel(self, request: CancelRequest) -> list[CancelOutcome]:
        outcomes = super().cancel(request)
        self._step(
            request.now,
            "cancel",
            lambda model: [model.cancel(job_id) for job_id in request.job_ids],
            outcomes,
        )
        return outcomes

    def reserve(self, request: ReserveRequest) -> list[Leased]:
        leased = super().reserve(request)
        ids = [one.ref.job_id for one in leased]

        def step(model: Model) -> list[Leased]:
            # A repeated request is answered in any order.
            return sorted(model.reserve(request, ids), key=lambda one: _place(ids, one))

        self._step(request.now, "reserve", step, leased)
        return leased

    def ack(self, batch: AckBatch) -> list[Settled]:
        settled = super().ack(batch)
        self._step(batch.now, "ack", lambda model: [model.ack(one) for one in batch.acks], settled)
        return settled

    def nack(self, batch: NackBatch) -> list[Settled]:
        settled = super().nack(batch)
        self._step(
            batch.now, "nack", lambda model: [model.nack(one) for one in batch.nacks], settled
        )
        return settled

    def extend(self, batch: ExtendBatch) -> list[Extended]:
        extended = super().extend(batch)
        self._step(
            batch.now, "extend", lambda model: [model.extend(one) for one in batch.items], extended
        )
        return extended

    def promote(self, now: Micros, limit: int) -> int:
        promoted = super().promote(now, limit)
        self._step(now, "promote", lambda model: model.promote(limit), promoted)
        return promoted

    def expire(self, now: Micros, limit: int) -> int:
        before = self._ids(JobState.DEAD)
        count = super().expire(now, limit)
        gone = self._ids(JobState.DEAD) - before
        able: list[int] = []

        def step(model: Model) -> int:
            able[:] = [len(model.expirable())]
            model.expire(gone)
            return min(able[0], limit)

        self._step(now, "expire", step, count)
        return count

    def forget(self, now: Micros, limit: int) -> int:
        gone = super().forget(now, limit)
        if gone or self._oracle.forgets(now):
            self._step(now, "forget", Model.forget, None)
        return gone

    def requeue_dead(self, selection: DeadSelection) -> Handled:
        before = self._ids(JobState.DEAD)
        handled = super().requeue_dead(selection)
        gone = before - self._ids(JobState.DEAD)
        self._step(selection.now, "requeue", _on_dead(selection, gone, Model.requeue), handled)
        return handled

    def discard_dead(self, selection: DeadSelection, remember_until: Micros) -> Handled:
        before = self._ids(JobState.DEAD)
        handled = super().discard_dead(selection, remember_until)
        gone = before - self._ids(JobState.DEAD)
        self._step(selection.now, "discard", _on_dead(selection, gone, Model.discard), handled)
        return handled

    def set_paused(self, name: str, paused: bool) -> bool:
        changed = super().set_paused(name, paused)
        self._step(None, "pause", lambda model: model.set_paused(name, paused), changed)
        return changed

    def purge(self, request: PurgeRequest) -> Handled:
        before = {job.id for job in self.state.jobs.values()}
        handled = super().purge(request)
        gone = before - {job.id for job in self.state.jobs.values()}

        def step(model: Model) -> Handled:
            waiting = model.those(JobState.SCHEDULED, JobState.READY, queue=request.queue)
            model.purge(gone)
            return Handled(len(waiting), min(len(waiting), request.limit))

        self._step(request.now, "purge", step, handled)
        return handled

    def _ids(self, state: JobState) -> set[str]:
        return {job.id for job in self.state.jobs.values() if job.state is state}


def _place(ids: Sequence[str], leased: Leased) -> int:
    return ids.index(leased.ref.job_id) if leased.ref.job_id in ids else len(ids)


def _on_dead(
    selection: DeadSelection, gone: set[str], change: Callable[[Model, set[str]], None]
) -> Step:
    def step(model: Model) -> Handled:
        able = model.dead(selection.ids, selection.filter)
        change(model, gone)
        return Handled(len(able), min(len(able), selection.limit))

    return step


# --- comparing ------------------------------------------------------------------------------------


def difference(engine: Engine, model: Model) -> str:
    """In what they differ first; empty: in nothing."""
    records = engine.list_jobs(JobQuery(_ALL)).records
    expected = [job.record() for job in model.jobs]
    if records != expected:
        return _first(records, expected)
    for what, got, wanted in (
        ("queues", engine.queues(), _queues(model)),
        ("counts", _counts(engine), _counts_of(model)),
        ("next due", engine.next_due(), model.next_due()),
        ("queues with ready jobs", set(engine.oldest_ready()), set(_oldest_ready(model))),
        ("dead", _dead(engine), sorted(job.id for job in model.dead(None, DeadFilter()))),
        ("remembered jobs", _remembered(engine, model), _remembered_of(model)),
        ("remembered leases", *_leases(engine, model)),
        ("memories", len(engine.state.memory), _memories_of(model)),
        ("age of the oldest ready job", _wrong_ages(engine, model), []),
        ("line", _line(engine), _line_of(model)),
    ):
        if got != wanted:
            return f"{what}: {got}, expected {wanted}"
    return ""


def _first(records: Sequence[JobRecord], expected: Sequence[JobRecord]) -> str:
    for got, wanted in zip(records, expected, strict=False):
        if got != wanted:
            return f"{got}, expected {wanted}"
    return f"jobs {[one.id for one in records]}, expected {[one.id for one in expected]}"


def _queues(model: Model) -> list[QueueState]:
    return [QueueState(queue, paused, "", False) for queue, paused in sorted(model.paused.items())]


def _counts(engine: Engine) -> dict[tuple[str, str], tuple[object, object]]:
    return {(one.queue, one.type): (one.depth, one.totals) for one in engine.counts()}


def _counts_of(model: Model) -> dict[tuple[str, str], tuple[object, object]]:
    counted: dict[tuple[str, str], tuple[object, object]] = {}
    for (queue, type_), totals in model.totals.items():
        numbers = [
            sum(job.state is state for job in model.jobs if _is(job.new, queue, type_))
            for state in (JobState.SCHEDULED, JobState.READY, JobState.LEASED, JobState.DEAD)
        ]
        counted[queue, type_] = (Depth(*numbers), totals)
    return counted


def _is(new: NewJob, queue: str, type_: str) -> bool:
    return (new.queue, new.type) == (queue, type_)


def _oldest_ready(model: Model) -> dict[str, Micros]:
    oldest: dict[str, Micros] = {}
    for job in model.those(JobState.READY):
        oldest[job.new.queue] = min(oldest.get(job.new.queue, job.ready_at), job.ready_at)
    return oldest


def _wrong_ages(engine: Engine, model: Model) -> list[tuple[str, Micros, Micros]]:
    """Calls come to the engine in another order than they looked at the clock."""
    told = engine.oldest_ready()
    return [
        (queue, told[queue], since)
        for queue, since in _oldest_ready(model).items()
        if abs(told[queue] - since) > SECOND
    ]


def _dead(engine: Engine) -> list[str]:
    return sorted(record.id for record in engine.list_dead(DeadQuery(_ALL)).records)


def _remembered(engine: Engine, model: Model) -> list[tuple[str, object, bytes]]:
    stored = engine.state.jobs
    found = ((job_id, engine.get(job_id)) for job_id in model.ended_jobs if job_id not in stored)
    return [(job_id, one and one.state, one.result if one else b"") for job_id, one in found]


def _remembered_of(model: Model) -> list[tuple[str, object, bytes]]:
    stored = {job.id for job in model.jobs}
    return [
        (job_id, one.state, one.result)
        for job_id, one in model.ended_jobs.items()
        if job_id not in stored
    ]


def _leases(engine: Engine, model: Model) -> tuple[list[object], list[object]]:
    got = [engine.state.memory.settlement(ref) for ref in model.ended_leases]
    return [*got], [settlement for settlement, _ in model.ended_leases.values()]


def _memories_of(model: Model) -> int:
    """A job and the lease that was acknowledged are one."""
    acked = sum(how is Settlement.ACKED for how, _ in model.ended_leases.values())
    return len(model.ended_jobs) + len(model.ended_leases) - acked


def _line(engine: Engine) -> dict[str, list[str]]:
    lines = {name: [job.id for job in queue.ready] for name, queue in engine.state.queues.items()}
    return {name: line for name, line in lines.items() if line}


def _line_of(model: Model) -> dict[str, list[str]]:
    lines: dict[str, list[str]] = {}
    ready = model.those(JobState.READY)
    for job in sorted(ready, key=lambda job: (-job.new.priority, job.place)):
        lines.setdefault(job.new.queue, []).append(job.id)
    return lines
