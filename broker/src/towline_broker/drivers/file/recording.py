"""From what has changed in the engine's state to a record of the journal."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from operator import attrgetter

from towline_broker.domain.jobs import Failure, LeaseRef, Progress, Totals
from towline_broker.domain.retry import DEFAULT_POLICY
from towline_broker.domain.time import Micros
from towline_broker.drivers.file.rows import (
    EndedRow,
    EndedTogetherRow,
    FailureRow,
    ForgottenRow,
    GrantedRow,
    JobRow,
    KeyRow,
    LeaseRow,
    ProgressRow,
    PushedRow,
    QueueRow,
    Record,
    SettledRow,
    StandingRow,
    TallyRow,
)
from towline_broker.drivers.memory.alike import alike
from towline_broker.drivers.memory.changes import FAILURE, PROGRESS, RESULT, WHOLE, Changes
from towline_broker.drivers.memory.records import Job, Lease, Tally
from towline_broker.drivers.memory.runs import Memory, Run
from towline_broker.drivers.memory.settled import Ended
from towline_broker.drivers.memory.state import State

_totals = attrgetter(*(field.name for field in fields(Totals)))


class Recorder:
    """Makes one record. Rows are as things stand in the state at that moment."""

    def __init__(self, state: State, now: Micros) -> None:
        self._state = state
        self._names: dict[str, int] = {}
        self._leases: dict[Lease, int] = {}
        self._last_lease: Lease | None = None
        self._last_index = 0
        self.record = Record(now)

    def finish(self) -> Record:
        self.record.names = list(self._names)
        self.record.leases = [LeaseRow(*lease) for lease in self._leases]
        return self.record

    def add_changes(self, changes: Changes) -> None:
        record, stored = self.record, self._state.jobs
        record.gone = changes.gone
        record.queues = [self._queue(name) for name in changes.queues]
        record.tallies = [self._tally(tally) for tally in changes.tallies]
        jobs, standing = [], []
        for job in changes.jobs:
            if stored.get(job.id) is job:
                if job.dirty & WHOLE:
                    jobs.append(self._job(job))
                else:
                    standing.append(self._standing(job))
        record.jobs, record.standing = jobs, standing
        record.pushed = list(self._pushed(changes.pushed))
        record.granted = list(self._granted(changes.granted))
        record.disowned = changes.disowned
        if changes.forgotten is not None:
            record.forgotten = ForgottenRow(*changes.forgotten)
        for run in changes.remembered:
            self._remember_all(run)
        record.keys = [self._key(*name) for name in changes.keys]
        changes.clear_marks()

    # --- carried forward; each returns about how many bytes it takes, 0 if it lives no more ------

    def carry_job(self, job_id: str) -> int:
        job = self._state.jobs.get(job_id)
        if job is None:
            return 0
        self.record.jobs.append(self._job(job))
        return job.size

    def carry_memory(self, memory: Memory) -> int:
        if not self._state.memory.keeps(memory):
            return 0
        return self._remember(memory)

    def carry_key(self, name: tuple[str, str]) -> int:
        if self._state.keys.held(*name) is None:
            return 0
        self.record.keys.append(self._key(*name))
        return 100 + len(name[1])

    def carry_tally(self, name: tuple[str, str]) -> int:
        self.record.tallies.append(self._tally(self._state.tallies[name]))
        return 300

    def carry_queue(self, name: str) -> int:
        self.record.queues.append(self._queue(name))
        return 200

    # --- rows -----------------------------------------------------------------------------------

    def _remember(self, memory: Memory) -> int:
        until, number, job_id, lease = memory
        if lease is None:
            return self._remember_job(job_id, until, number)
        how = self._state.memory.settlement(LeaseRef(*lease)) or 0
        queue, job_id, grant = lease
        names = self._name(queue), self._name(grant)
        self.record.settled.append(SettledRow(job_id, *names, how, until, number))
        return 150

    def _remember_all(self, run: Run) -> None:
        if len(run.jobs) < 2:
            for memory in run:
                self._remember(memory)
            return
        ends = self._state.memory.jobs.get_all(run.jobs)
        number = run.number
        for ended, ids in alike(run.jobs, ends):
            if ended is not None:  # as all are that were just remembered
                self._end_together(ended, ids, run.until, number)
            number += len(ids)

    def _end_together(self, ended: Ended, ids: Sequence[str], until: Micros, number: int) -> None:
        row = EndedTogetherRow(
            list(ids),
            self._name(ended.queue),
            ended.state,
            None if ended.finished_at == self.record.now else ended.finished_at,
            until,
            number,
            ended.result,
            None if ended.grant is None else self._name(ended.grant),
        )
        self.record.ended_together.append(row)

    def _remember_job(self, job_id: str, until: Micros, number: int) -> int:
        ended = self._state.memory.jobs[job_id]
        row = EndedRow(
            job_id,
            self._name(ended.queue),
            ended.state,
            None if ended.finished_at == self.record.now else ended.finished_at,
            until,
            number,
            ended.result,
            None if ended.grant is None else self._name(ended.grant),
        )
        self.record.ended.append(row)
        return 100 + len(ended.result)

    def _job(self, job: Job) -> JobRow:
        now = self.record.now
        return JobRow(
            job.id,
            self._name(job.queue),
            self._name(job.tally.type),
            job.envelope,
            job.priority,
            job.number,
            job.place,
            job.state,
            None if job.enqueued_at == now else job.enqueued_at,
            None if job.available_at == now else job.available_at,
            job.attempt,
            job.releases,
            job.expires_at,
            job.started_at,
            job.finished_at,
            job.keep_until,
            None if job.lease is None else self._lease(job.lease),
            job.dead_reason,
            _failure(job.failure),
            _progress(job.progress),
            job.result,
            job.retention,
            job.unique_key,
            job.unique_until,
            None if job.retry is DEFAULT_POLICY else job.retry.to_text(),
        )

    def _pushed(self, jobs: Sequence[Job]) -> Iterator[PushedRow]:
        kinds = [(job.tally, job.priority, job.retention, job.retry) for job in jobs]
        for _, together in alike(jobs, kinds):
            first = together[0]
            yield PushedRow(
                [job.id for job in together],
                [job.envelope for job in together],
                self._name(first.queue),
                self._name(first.tally.type),
                first.priority,
                first.number,
                first.place,
                None if first.enqueued_at == self.record.now else first.enqueued_at,
                first.retention,
                None if first.retry is DEFAULT_POLICY else first.retry.to_text(),
            )

    def _granted(self, jobs: Sequence[Job]) -> Iterator[GrantedRow]:
        for (lease, attempt), together in alike(jobs, [(job.lease, job.attempt) for job in jobs]):
            if lease is not None:
                yield GrantedRow([job.id for job in together], self._lease(lease), attempt)

    def _standing(self, job: Job) -> StandingRow:
        dirty = job.dirty
        return StandingRow(
            job.id,
            job.state,
            job.place,
            job.available_at,
            job.attempt,
            job.releases,
            job.expires_at,
            job.started_at,
            job.finished_at,
            job.keep_until,
            None if job.lease is None else self._lease(job.lease),
            job.dead_reason,
            _failure(job.failure) if dirty & FAILURE else None,
            _progress(job.progress) if dirty & PROGRESS else None,
            job.result if dirty & RESULT else None,
        )

    def _key(self, queue: str, key: str) -> KeyRow:
        held = self._state.keys.held(queue, key)
        if held is None:
            return KeyRow(self._name(queue), key)
        return KeyRow(self._name(queue), key, *held)

    def _queue(self, name: str) -> QueueRow:
        queue = self._state.queues[name]
        return QueueRow(self._name(name), queue.paused, queue.moving_to, queue.moved)

    def _tally(self, tally: Tally) -> TallyRow:
        totals = list(_totals(tally.totals))
        return TallyRow(self._name(tally.queue), self._name(tally.type), totals)

    def _name(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))

    def _lease(self, lease: Lease) -> int:
        # The jobs of one Reserve share their lease.
        if lease is not self._last_lease:
            self._last_lease = lease
            self._last_index = self._leases.setdefault(lease, len(self._leases))
        return self._last_index


def _failure(failure: Failure | None) -> FailureRow | None:
    if failure is None:
        return None
    return FailureRow(failure.type, failure.message, failure.trace, failure.at)


def _progress(progress: Progress | None) -> ProgressRow | None:
    if progress is None:
        return None
    return ProgressRow(progress.fraction, progress.message, progress.checkpoint)
