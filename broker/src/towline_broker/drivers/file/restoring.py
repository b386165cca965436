"""From the records of a journal back to the state of the engine.

Records tell how things stand, so each row simply replaces what was known; only when all are read
are the jobs put in their lines.
"""

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter

from towline_broker.domain.jobs import (
    DeadReason,
    Failure,
    JobState,
    Progress,
    Totals,
)
from towline_broker.domain.retry import DEFAULT_POLICY, RetryPolicy
from towline_broker.domain.time import Micros
from towline_broker.drivers.file.memories import Memories
from towline_broker.drivers.file.rows import (
    FailureRow,
    GrantedRow,
    JobRow,
    LeaseRow,
    ProgressRow,
    PushedRow,
    QueueRow,
    Record,
    StandingRow,
    TallyRow,
)
from towline_broker.drivers.memory.records import Job, Lease
from towline_broker.drivers.memory.state import State

_TOTALS = [field.name for field in fields(Totals)]
_STATES = {int(state): state for state in JobState}
_REASONS = {int(reason): reason for reason in DeadReason}


class Unsound(Exception):
    """A record tells of what there is not, such as a name beyond those that it has."""


class Restoration:
    """Takes records one after the other, and then gives the state."""

    def __init__(self) -> None:
        self._state = State()
        #: In about the order of their numbers and places, which those of the state are not in.
        self._jobs: dict[str, Job] = {}
        self._memories = Memories()
        self._policies: dict[str, RetryPolicy] = {}
        #: The latest time that any record tells.
        self.clock: Micros = 0
        #: The oldest segment that is needed.
        self.first_segment = 0

    def apply(self, record: Record) -> None:
        """Raises Unsound for a record that no release of Towline writes."""
        try:
            self._apply(record)
        except (LookupError, ValueError, TypeError) as error:
            raise Unsound(f"{type(error).__name__}: {error}") from error

    def _apply(self, record: Record) -> None:
        names, jobs = record.names, self._jobs
        leases = [_lease(lease) for lease in record.leases]
        self.clock = max(self.clock, record.now)
        self.first_segment = max(self.first_segment, record.first_segment)
        for job_id in record.gone:
            jobs.pop(job_id, None)
        for queue in record.queues:
            self._queue(queue, names)
        for tally in record.tallies:
            self._tally(tally, names)
        for row in record.jobs:
            jobs[row.id] = self._job(row, record, leases)
        for standing in record.standing:
            job = jobs.get(standing.id)
            if job is not None:
                _stand(job, standing, leases)
        for pushed in record.pushed:
            self._push(pushed, record)
        for granted in record.granted:
            self._grant(granted, leases)
        self._memories.apply(record)
        for key in record.keys:
            self._state.keys.restore(names[key.queue], key.key, key.holder, key.until)

    def finish(self, now: Micros) -> State:
        """Puts every job in its place; live leases get a fresh full term from ``now``, unless a
        heartbeat has made them longer."""
        for job in sorted(self._jobs.values(), key=attrgetter("number")):
            self._state.place_in_push_order(job)
        for job in sorted(self._jobs.values(), key=attrgetter("place")):
            if job.lease is not None:
                until = max(job.lease.until, now + job.lease.length)
                job.lease = job.lease._replace(until=until)
            self._state.place(job)
        self._memories.finish(self._state.memory)
        return self._state

    def _job(self, row: JobRow, record: Record, leases: Sequence[Lease]) -> Job:
        now = record.now
        tally = self._state.tally(record.names[row.queue], record.names[row.type])
        return Job(
            row.id,
            tally.queue,
            tally,
            row.envelope,
            row.priority,
            row.number,
            row.place,
            now if row.enqueued_at is None else row.enqueued_at,
            now if row.available_at is None else row.available_at,
            row.expires_at,
            row.retention,
            row.unique_key,
            row.unique_until,
            DEFAULT_POLICY if row.retry is None else self._policy(row.retry),
            0,
            _STATES[row.state],
            row.attempt,
            row.releases,
            row.started_at,
            row.finished_at,
            row.keep_until,
            None if row.lease is None else leases[row.lease],
            _failure(row.failure),
            _progress(row.progress),
            None if row.dead_reason is None else _REASONS[row.dead_reason],
            row.result,
        )

    def _push(self, row: PushedRow, record: Record) -> None:
        jobs = self._jobs
        at = record.now if row.enqueued_at is None else row.enqueued_at
        tally = self._state.tally(record.names[row.queue], record.names[row.type])
        policy = DEFAULT_POLICY if row.retry is None else self._policy(row.retry)
        for offset, (job_id, envelope) in enumerate(zip(row.ids, row.envelopes, strict=True)):
            jobs[job_id] = Job(
                job_id,
                tally.queue,
                tally,
                envelope,
                row.priority,
                row.number + offset,
                row.place + offset,
                at,
                at,
                retention=row.retention,
                retry=policy,
            )

    def _grant(self, row: GrantedRow, leases: Sequence[Lease]) -> None:
        lease = leases[row.lease]
        for job_id in row.ids:
            job = self._jobs.get(job_id)
            if job is not None:
                job.state = JobState.LEASED
                job.attempt = row.attempt
                job.started_at = lease.granted_at
                job.lease = lease

    def _policy(self, text: str) -> RetryPolicy:
        policy = self._policies.get(text)
        if policy is None:
            policy = self._policies[text] = self._state.shared(RetryPolicy.from_text(text))
        return policy

    def _queue(self, row: QueueRow, names: Sequence[str]) -> None:
        queue = self._state.queue(names[row.name])
        queue.paused, queue.moving_to, queue.moved = row.paused, row.moving_to, row.moved

    def _tally(self, row: TallyRow, names: Sequence[str]) -> None:
        tally = self._state.tally(names[row.queue], names[row.type])
        tally.totals = Totals(**dict(zip(_TOTALS, row.totals, strict=False)))


def _stand(job: Job, row: StandingRow, leases: Sequence[Lease]) -> None:
    job.state = _STATES[row.state]
    job.place = row.place
    job.available_at = row.available_at
    job.attempt = row.attempt
    job.releases = row.releases
    job.expires_at = row.expires_at
    job.started_at = row.started_at
    job.finished_at = row.finished_at
    job.keep_until = row.keep_until
    job.lease = None if row.lease is None else leases[row.lease]
    job.dead_reason = None if row.dead_reason is None else _REASONS[row.dead_reason]
    if row.failure is not None:
        job.failure = _failure(row.failure)
    if row.progress is not None:
        job.progress = _progress(row.progress)
    if row.result is not None:
        job.result = row.result


def _failure(row: FailureRow | None) -> Failure | None:
    return None if row is None else Failure(row.type, row.message, row.trace, row.at)


def _progress(row: ProgressRow | None) -> Progress | None:
    return None if row is None else Progress(row.fraction, row.message, row.checkpoint)


def _lease(row: LeaseRow) -> Lease:
    return Lease(row.grant, row.granted_at, row.until, row.length, row.worker_id, row.request_id)
