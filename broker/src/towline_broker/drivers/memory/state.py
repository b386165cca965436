"""Where every job stands, and the steps from one state to another.

Each step keeps all indexes, the counts and the account of memory in agreement. What calls for a
step, and in which order, is the engine's business.
"""

from collections import Counter
from dataclasses import dataclass, field

from towline_broker.domain.jobs import DeadReason, JobState, NewJob
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Transfer
from towline_broker.drivers.memory.dead import DeadLetters
from towline_broker.drivers.memory.lines import Agenda, NumberedLine, ReadyLine
from towline_broker.drivers.memory.records import Job, Lease, Tally, current_cost
from towline_broker.drivers.memory.settled import SettleMemory, UniqueKeys


@dataclass(slots=True)
class Events:
    """What a listener has to be told, gathered over one or more changes."""

    #: Jobs that became READY, by queue.
    ready: Counter[str] = field(default_factory=Counter)
    #: Ids of jobs that ended.
    ended: list[str] = field(default_factory=list)


class Queue:
    __slots__ = ("live", "moved", "moving_to", "name", "paused", "ready", "scheduled")

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False
        #: The store that the queue is on its way to, or in; empty: this one.
        self.moving_to = ""
        self.moved = False
        self.ready = ReadyLine()
        self.scheduled: dict[str, Job] = {}
        #: SCHEDULED + READY + LEASED.
        self.live = 0


class State:
    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.in_push_order: NumberedLine[int, Job] = NumberedLine()
        self.queues: dict[str, Queue] = {}
        self.tallies: dict[tuple[str, str], Tally] = {}
        #: Ids of SCHEDULED jobs by their time.
        self.due: Agenda[str] = Agenda()
        #: Ids of SCHEDULED and READY jobs that were never started, by the end of their validity.
        self.expiring: Agenda[str] = Agenda()
        #: Ids of LEASED jobs by the deadline of the lease.
        self.deadlines: Agenda[str] = Agenda()
        #: Ids of SUCCEEDED and CANCELLED jobs by the end of their retention.
        self.retained: Agenda[str] = Agenda()
        #: request_id to the jobs that are leased under it, in the order of the grant.
        self.requests: dict[str, dict[str, Job]] = {}
        self.dead = DeadLetters()
        self.keys = UniqueKeys()
        self.memory = SettleMemory()
        self.events = Events()
        self._jobs_size = 0
        self._pushes = 0

    @property
    def size(self) -> int:
        """About how many bytes of memory all of it takes."""
        return self._jobs_size + self.memory.size

    # --- coming and going ---------------------------------------------------------------------

    def add(self, new: NewJob, now: Micros) -> None:
        job = self._store(new, now)
        job.tally.totals.pushed += 1
        if new.unique_key is not None:
            self.keys.take(new.queue, new.unique_key, new.id, new.unique_until)
        self._enter_waiting(job, now, new.due_at)

    def receive(self, transfer: Transfer, *, takes_key: bool) -> None:
        """A job from another store, as it is."""
        new, record = transfer.new, transfer.record
        job = self._store(new, record.enqueued_at)
        job.restore(record)
        self.resize(job)
        if takes_key and new.unique_key is not None:
            self.keys.take(new.queue, new.unique_key, new.id, new.unique_until)
        self._enter(job, record.state)
        if record.state is JobState.DEAD:
            self.dead.add(job)
        elif record.state.ended:
            self.retained.set(new.id, transfer.keep_until or 0)
        else:
            self._join_waiting(job)

    def drop(self, job: Job) -> None:
        """A job that is not LEASED goes to another store, and leaves no trace."""
        self.remove(job)
        self.free_key(job)
        self.memory.forget_job(job.new.id)

    def _store(self, new: NewJob, enqueued_at: Micros) -> Job:
        """A job that has no state yet."""
        self._pushes += 1
        if new.queue not in self.queues:
            self.queues[new.queue] = Queue(new.queue)
        tally = self.tallies.get((new.queue, new.type))
        if tally is None:
            tally = self.tallies[new.queue, new.type] = Tally(new.queue, new.type)
        job = Job(new, self._pushes, enqueued_at, tally)
        self.jobs[new.id] = job
        self.in_push_order.add(job.number, job)
        self._jobs_size += job.size
        return job

    def remove(self, job: Job) -> None:
        self._leave(job)
        del self.jobs[job.new.id]
        self.in_push_order.remove(job.number)
        self._jobs_size -= job.size

    def resize(self, job: Job) -> None:
        """To be called when a result, a failure or a progress was recorded with the job."""
        size = current_cost(job.new, job)
        self._jobs_size += size - job.size
        job.size = size

    # --- steps --------------------------------------------------------------------------------

    def wait(self, job: Job, now: Micros, due_at: Micros | None = None) -> None:
        """To READY or SCHEDULED, with a new place."""
        self._leave(job)
        self._enter_waiting(job, now, due_at)

    def grant(self, job: Job, lease: Lease) -> None:
        """READY to LEASED."""
        self._leave(job)
        job.attempt += 1
        job.started_at = lease.granted_at
        job.tally.totals.started += 1
        if lease.request_id:
            self.requests.setdefault(lease.request_id, {})[job.new.id] = job
        self._enter(job, JobState.LEASED)
        self.set_lease(job, lease)

    def set_lease(self, job: Job, lease: Lease) -> None:
        job.lease = lease
        self.deadlines.set(job.new.id, lease.until)

    def bury(self, job: Job, reason: DeadReason, now: Micros) -> None:
        """To DEAD."""
        self._leave(job)
        job.dead_reason = reason
        job.finished_at = now
        job.tally.totals.dead_lettered += 1
        self._enter(job, JobState.DEAD)
        self.dead.add(job)
        self._free_key_of_ended(job)
        self.events.ended.append(job.new.id)

    def finish(self, job: Job, state: JobState, now: Micros, remember_until: Micros) -> None:
        """To SUCCEEDED or CANCELLED. The job goes at once if it has no retention; the settle memory
        keeps its id, state and result."""
        new = job.new
        self._leave(job)
        job.finished_at = now
        self._enter(job, state)
        if new.retention > 0:
            self.retained.set(new.id, now + new.retention)
        else:
            self.remove(job)
        self.memory.remember_job(new.id, new.queue, state, now, remember_until, job.result)
        if state is JobState.SUCCEEDED:
            self._free_key_of_ended(job)
        else:
            self.free_key(job)
        self.events.ended.append(new.id)

    def purge(self, job: Job, now: Micros, remember_until: Micros) -> None:
        """A waiting job goes as if cancelled, whatever its retention."""
        new = job.new
        self.remove(job)
        self.memory.remember_job(new.id, new.queue, JobState.CANCELLED, now, remember_until)
        self.free_key(job)
        self.events.ended.append(new.id)

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
        if not to:
            queue.moved = False
            if was_sealed and not queue.paused:
                self.events.ready[queue.name] += len(queue.ready)

    def forward(self, queue: Queue) -> None:
        """Nothing is left of it here."""
        queue.moved = True

    # --- unique keys --------------------------------------------------------------------------

    def free_key(self, job: Job) -> None:
        if job.new.unique_key is not None:
            self.keys.free(job.new.queue, job.new.unique_key, job.new.id)

    def holds_key(self, job: Job) -> bool:
        key = job.new.unique_key
        return key is not None and self.keys.is_held_by(job.new.queue, key, job.new.id)

    def _free_key_of_ended(self, job: Job) -> None:
        if job.new.unique_key is not None:
            self.keys.job_ended(job.new.queue, job.new.unique_key, job.new.id)

    # --- the indexes --------------------------------------------------------------------------

    def _enter_waiting(self, job: Job, now: Micros, due_at: Micros | None) -> None:
        if due_at is not None and due_at > now:
            job.available_at = due_at
            self._enter(job, JobState.SCHEDULED)
        else:
            job.available_at = now
            self._enter(job, JobState.READY)
        self._join_waiting(job)

    def _join_waiting(self, job: Job) -> None:
        """To its place among the READY or the SCHEDULED."""
        new = job.new
        queue = self.queues[new.queue]
        if job.state is JobState.SCHEDULED:
            queue.scheduled[new.id] = job
            self.due.set(new.id, job.available_at)
        else:
            queue.ready.add(job)
            self.events.ready[new.queue] += 1
        if job.expires_at is not None and job.attempt == 0:
            self.expiring.set(new.id, job.expires_at)

    def _enter(self, job: Job, state: JobState) -> None:
        job.state = state
        job.tally.depth[state] += 1
        if not state.ended:
            self.queues[job.new.queue].live += 1

    def _leave(self, job: Job) -> None:
        """Takes the job out of everything that belongs to its present state."""
        job_id, state = job.new.id, job.state
        queue = self.queues[job.new.queue]
        job.tally.depth[state] -= 1
        if not state.ended:
            queue.live -= 1
        if state is JobState.READY:
            queue.ready.remove(job)
            self._leave_expiring(job)
        elif state is JobState.SCHEDULED:
            del queue.scheduled[job_id]
            self.due.discard(job_id)
            self._leave_expiring(job)
        elif state is JobState.LEASED:
            self._leave_lease(job)
        elif state is JobState.DEAD:
            self.dead.remove(job)
        else:
            self.retained.discard(job_id)

    def _leave_expiring(self, job: Job) -> None:
        if job.expires_at is not None:
            self.expiring.discard(job.new.id)

    def _leave_lease(self, job: Job) -> None:
        self.deadlines.discard(job.new.id)
        if job.lease is not None and job.lease.request_id:
            request = self.requests[job.lease.request_id]
            del request[job.new.id]
            if not request:
                del self.requests[job.lease.request_id]
        job.lease = None
