"""Where every job stands, and the steps from one state to another.

Each step keeps all indexes, the counts and the account of memory in agreement. What calls for a
step, and in which order, is the engine's business.
"""

from collections.abc import Sequence

from towline_broker.domain.jobs import DeadReason, JobState, NewJob
from towline_broker.domain.retry import DEFAULT_POLICY, RetryPolicy
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Transfer
from towline_broker.drivers.memory.changes import STANDING, WHOLE, Changes
from towline_broker.drivers.memory.dead import DeadLetters
from towline_broker.drivers.memory.events import Events
from towline_broker.drivers.memory.leases import LiveLeases
from towline_broker.drivers.memory.lines import Agenda, NumberedLine
from towline_broker.drivers.memory.parts import PartedDict
from towline_broker.drivers.memory.queue import Queue
from towline_broker.drivers.memory.records import (
    LEASED,
    READY,
    Job,
    Lease,
    Tally,
    by_tally,
    cost_of,
    current_cost,
)
from towline_broker.drivers.memory.settled import Ended, SettleMemory
from towline_broker.drivers.memory.unique_keys import UniqueKeys

#: Retry policies that are shared by the jobs that have them.
SHARED_POLICIES = 1_000


class State:
    def __init__(self) -> None:
        self.jobs: PartedDict[str, Job] = PartedDict()
        self.in_push_order: NumberedLine[int, Job] = NumberedLine()
        self.queues: dict[str, Queue] = {}
        self.tallies: dict[tuple[str, str], Tally] = {}
        #: Ids of SCHEDULED jobs by their time.
        self.due: Agenda[str] = Agenda()
        #: Ids of SCHEDULED and READY jobs that were never started, by the end of their validity.
        self.expiring: Agenda[str] = Agenda()
        self.leases = LiveLeases()
        #: Ids of SUCCEEDED and CANCELLED jobs by the end of their retention.
        self.retained: Agenda[str] = Agenda()
        self.dead = DeadLetters()
        self.keys = UniqueKeys()
        self.memory = SettleMemory()
        self.events = Events()
        #: None: nobody asks what has changed.
        self.changes: Changes | None = None
        self._jobs_size = 0
        #: The greatest number and the greatest place that a job was ever given.
        self.pushes = 0
        self.places = 0
        self._policies: dict[RetryPolicy, RetryPolicy] = {}

    @property
    def count(self) -> int:
        """The jobs, at no cost: ``len(self.jobs)`` adds up its parts."""
        return len(self.in_push_order)

    @property
    def size(self) -> int:
        """About how many bytes of memory all of it takes."""
        return self._jobs_size + self.memory.size

    # --- coming and going ---------------------------------------------------------------------

    def add(self, new: NewJob, now: Micros) -> None:
        job = self._store(new, now)
        job.tally.totals.pushed += 1
        if new.unique_key is not None:
            self.keys.take(job.queue, new.unique_key, job.id, new.unique_until)
        self._enter_waiting(job, now, new.due_at)

    def receive(self, transfer: Transfer, *, takes_key: bool) -> None:
        """A job from another store, as it is."""
        new, record = transfer.new, transfer.record
        job = self._store(new, record.enqueued_at)
        job.restore(record)
        self.resize(job, WHOLE)
        job.place = self._next_place()
        if takes_key and new.unique_key is not None:
            self.keys.take(job.queue, new.unique_key, job.id, new.unique_until)
        if record.state in (JobState.SUCCEEDED, JobState.CANCELLED):
            job.keep_until = transfer.keep_until or 0
        self._enter(job, record.state)
        self.join(job)

    def drop(self, job: Job) -> None:
        """A job that is not LEASED goes to another store, and leaves no trace."""
        self.remove(job)
        self.free_key(job)
        self.memory.forget_job(job.id)

    def _store(self, new: NewJob, enqueued_at: Micros) -> Job:
        """A job that has no state yet."""
        tally = self.tally(new.queue, new.type)
        self.pushes += 1
        job = Job(
            new.id,
            tally.queue,
            tally,
            new.envelope,
            new.priority,
            self.pushes,
            0,
            enqueued_at,
            enqueued_at,
            new.expires_at,
            new.retention,
            new.unique_key,
            new.unique_until,
            self.shared(new.retry),
            size=cost_of(new),
        )
        self.jobs[job.id] = job
        self.in_push_order.add(job.number, job)
        self._jobs_size += job.size
        self.note(job, WHOLE)
        return job

    def place_in_push_order(self, job: Job) -> None:
        """A job that is known from a record. To be called in the order of their numbers, and after
        it :meth:`place` in that of their places."""
        self.jobs[job.id] = job
        job.size = current_cost(job)
        self.grow(job.size)
        self.in_push_order.add(job.number, job)
        self.pushes = max(self.pushes, job.number)

    def place(self, job: Job) -> None:
        """Among those of its state; gives it its lease."""
        self._enter(job, job.state)
        self.join(job)
        self.places = max(self.places, job.place)
        if job.lease is not None:
            self.leases.add(job.lease, [job])

    def queue(self, name: str) -> Queue:
        """The queue of this name, which comes into being if there is none."""
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = Queue(name)
            self.note_queue(name)
        return queue

    def tally(self, queue: str, type_: str) -> Tally:
        """The tally of a type in a queue; both come into being if there are none."""
        tally = self.tallies.get((queue, type_))
        if tally is None:
            name = self.queue(queue).name
            tally = self.tallies[name, type_] = Tally(name, type_)
        return tally

    def shared(self, policy: RetryPolicy) -> RetryPolicy:
        """One object for equal policies."""
        if policy is DEFAULT_POLICY:
            return policy
        if len(self._policies) >= SHARED_POLICIES:
            self._policies.clear()
        return self._policies.setdefault(policy, policy)

    def remove(self, job: Job) -> None:
        self._leave(job)
        self.drop_all([job])

    def drop_all(self, jobs: Sequence[Job]) -> None:
        """Jobs that have no state any more, and are counted no more."""
        ids = [job.id for job in jobs]
        self.jobs.delete_all(ids)
        self.in_push_order.remove_all([job.number for job in jobs])
        self._jobs_size -= sum([job.size for job in jobs])
        if self.changes is not None:
            self.changes.gone += ids
            for tally in by_tally(jobs):
                self.changes.note_tally(tally)

    def grow(self, size: int) -> None:
        """By stored jobs of so many bytes."""
        self._jobs_size += size

    def resize(self, job: Job, part: int) -> None:
        """To be called when a result, a failure or a progress was recorded with the job."""
        size = current_cost(job)
        self._jobs_size += size - job.size
        job.size = size
        self.note(job, part)

    # --- for who records the changes ------------------------------------------------------------

    def watch(self, changes: Changes) -> None:
        """From here on, what changes is noted there."""
        self.changes = self.keys.changes = self.memory.changes = changes

    def note(self, job: Job, parts: int) -> None:
        if self.changes is not None:
            self.changes.note(job, parts)

    def note_tally(self, tally: Tally) -> None:
        if self.changes is not None:
            self.changes.note_tally(tally)

    def note_queue(self, name: str) -> None:
        if self.changes is not None:
            self.changes.queues[name] = None

    # --- steps --------------------------------------------------------------------------------

    def wait(self, job: Job, now: Micros, due_at: Micros | None = None) -> None:
        """To READY or SCHEDULED, with a new place."""
        self._leave(job)
        self._enter_waiting(job, now, due_at)

    def grant(self, jobs: Sequence[Job], lease: Lease) -> None:
        """READY to LEASED. Whoever grants has taken them out of their line, all at once."""
        leased = JobState.LEASED
        for job in jobs:
            job.state = leased
            job.attempt += 1
            job.started_at = lease.granted_at
            job.lease = lease
            if job.expires_at is not None:
                self.expiring.discard(job.id)
        for tally, count in by_tally(jobs).items():
            tally.depth[READY] -= count
            tally.depth[LEASED] += count
            tally.totals.started += count
        self.leases.add(lease, jobs)
        if self.changes is not None:
            self.changes.note_granted(jobs)

    def set_lease(self, job: Job, lease: Lease) -> None:
        """Another deadline, for a LEASED job."""
        if job.lease is not None:
            self.leases.remove(job.lease, [job.id])
        job.lease = lease
        self.leases.add(lease, [job])
        self.note(job, STANDING)

    def bury(self, job: Job, reason: DeadReason, now: Micros) -> None:
        """To DEAD."""
        self._leave(job)
        job.dead_reason = reason
        job.finished_at = now
        job.tally.totals.dead_lettered += 1
        job.place = self._next_place()
        self._enter(job, JobState.DEAD)
        self.dead.add(job)
        self._free_key_of_ended(job)
        self.events.ended.append(job.id)

    def finish(
        self,
        job: Job,
        state: JobState,
        now: Micros,
        remember_until: Micros,
        acked: str | None = None,
    ) -> None:
        """To SUCCEEDED or CANCELLED. The job goes at once if it has no retention; the settle memory
        keeps its id, state and result. ``acked``: the grant of the lease that this ends."""
        self._leave(job)
        if job.retention > 0:
            job.finished_at, job.keep_until = now, now + job.retention
            self._enter(job, state)
            self.retained.set(job.id, job.keep_until)
        else:
            self.drop_all([job])
        self.remember(job, state, now, remember_until, acked)
        if state is JobState.SUCCEEDED:
            self._free_key_of_ended(job)
        else:
            self.free_key(job)
        self.events.ended.append(job.id)

    def purge(self, job: Job, now: Micros, remember_until: Micros) -> None:
        """A waiting job goes as if cancelled, whatever its retention."""
        self.remove(job)
        self.remember(job, JobState.CANCELLED, now, remember_until)
        self.free_key(job)
        self.events.ended.append(job.id)

    def remember(
        self, job: Job, state: JobState, at: Micros, until: Micros, acked: str | None = None
    ) -> None:
        since = self.memory.since
        ended = Ended(job.queue, state, at, until, since, acked, job.result)
        self.memory.remember_job(job.id, ended)

    def revive(self, job: Job, now: Micros) -> None:
        """DEAD to READY, for a new series of attempts."""
        self._leave(job)
        job.attempt = 0
        job.expires_at = None
        job.dead_reason = None
        job.finished_at = None
        self._enter_waiting(job, now, None)

    # --- queues -------------------------------------------------------------------------------

    def seal(self, queue: Queue, to: str) -> None:
        """To another store, or home (empty)."""
        was_sealed = queue.moving_to != ""
        queue.moving_to = to
        self.note_queue(queue.name)
        if not to:
            queue.moved = False
            if was_sealed and not queue.paused:
                self.events.ready[queue.name] += len(queue.ready)

    def forward(self, queue: Queue) -> None:
        """Nothing is left of it here."""
        queue.moved = True
        self.note_queue(queue.name)

    # --- unique keys --------------------------------------------------------------------------

    def free_key(self, job: Job) -> None:
        if job.unique_key is not None:
            self.keys.free(job.queue, job.unique_key, job.id)

    def holds_key(self, job: Job) -> bool:
        key = job.unique_key
        return key is not None and self.keys.is_held_by(job.queue, key, job.id)

    def _free_key_of_ended(self, job: Job) -> None:
        if job.unique_key is not None:
            self.keys.job_ended(job.queue, job.unique_key, job.id)

    # --- the indexes --------------------------------------------------------------------------

    def _enter_waiting(self, job: Job, now: Micros, due_at: Micros | None) -> None:
        job.place = self._next_place()
        if due_at is not None and due_at > now:
            job.available_at = due_at
            self._enter(job, JobState.SCHEDULED)
        else:
            job.available_at = now
            self._enter(job, JobState.READY)
        self.join(job)

    def join(self, job: Job) -> None:
        """To its place among those of its state. A lease is joined by :meth:`place`."""
        state = job.state
        if state is JobState.READY:
            self.queues[job.queue].ready.add(job)
            self.events.ready[job.queue] += 1
        elif state is JobState.SCHEDULED:
            self.queues[job.queue].scheduled.add(job.place, job)
            self.due.set(job.id, job.available_at)
        elif state is JobState.DEAD:
            self.dead.add(job)
        elif job.keep_until is not None:
            self.retained.set(job.id, job.keep_until)
        if job.expires_at is not None and job.attempt == 0 and state <= JobState.READY:
            self.expiring.set(job.id, job.expires_at)

    def _next_place(self) -> int:
        self.places += 1
        return self.places

    def _enter(self, job: Job, state: JobState) -> None:
        job.state = state
        job.tally.depth[state] += 1
        if state < JobState.SUCCEEDED:
            self.queues[job.queue].live += 1
        self.note(job, STANDING)

    def _leave(self, job: Job) -> None:
        """Takes the job out of everything that belongs to its present state."""
        job_id, state = job.id, job.state
        queue = self.queues[job.queue]
        job.tally.depth[state] -= 1
        if state < JobState.SUCCEEDED:
            queue.live -= 1
        if state is JobState.READY:
            queue.ready.remove(job)
            self._leave_expiring(job)
        elif state is JobState.SCHEDULED:
            queue.scheduled.remove(job.place)
            self.due.discard(job_id)
            self._leave_expiring(job)
        elif state is JobState.LEASED:
            lease, job.lease = job.lease, None
            if lease is not None:
                self.leases.remove(lease, [job.id])
        elif state is JobState.DEAD:
            self.dead.remove(job)
        else:
            self.retained.discard(job_id)

    def _leave_expiring(self, job: Job) -> None:
        if job.expires_at is not None:
            self.expiring.discard(job.id)
