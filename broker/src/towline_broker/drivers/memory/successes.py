"""Jobs that succeed and go, those of one Ack together.

Most have nothing that keeps them: no retention, no unique key. Each leaves its lease at once, so
that nothing in the same call can end it again, and is remembered at once; from the indexes all are
taken at the end.
"""

from collections.abc import Sequence

from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Settled
from towline_broker.drivers.memory.records import LEASED, Job, Lease, Tally, by_tally
from towline_broker.drivers.memory.settled import Ended
from towline_broker.drivers.memory.state import State


class Successes:
    """To be finished before anything else happens to the state but the end of other leases."""

    def __init__(self, state: State, now: Micros, remember_until: Micros) -> None:
        self._state = state
        self._memory = state.memory.jobs
        self._now = now
        self._remember_until = remember_until
        self._jobs: list[Job] = []
        #: The lease of the job that was added last, the tally that it counts in, and what all those
        #: have in common that have both in common with it.
        self._lease: Lease | None = None
        self._tally: Tally | None = None
        self._ended: Ended
        self._settled: Settled
        #: By the lease's identity, for its own comparison would look at all of it.
        self._leased: dict[int, tuple[Lease, list[str]]] = {}
        self._ids: list[str] = []
        self._results_size = 0

    def add(self, job: Job, lease: Lease, result: bytes) -> Settled:
        """A LEASED job without retention and unique key."""
        if lease is not self._lease or job.tally is not self._tally:
            self._begin(lease, job.tally)
        job.lease = None
        self._jobs.append(job)
        self._ids.append(job.id)
        if result:
            self._memory[job.id] = self._end(lease.grant, job.queue, result)
            self._results_size += len(result)
        else:
            self._memory[job.id] = self._ended
        return self._settled

    def add_all(
        self, jobs: Sequence[Job], ids: Sequence[str], lease: Lease, tally: Tally
    ) -> list[Settled]:
        """The same for several jobs of this lease and tally, without results."""
        self._begin(lease, tally)
        for job in jobs:
            job.lease = None
        self._jobs += jobs
        self._ids += ids
        self._memory.put_all(ids, [self._ended] * len(ids))
        return [self._settled] * len(ids)

    def _begin(self, lease: Lease, tally: Tally) -> None:
        self._lease, self._tally = lease, tally
        _, self._ids = self._leased.setdefault(id(lease), (lease, []))
        self._ended = self._end(lease.grant, tally.queue)
        self._settled = Settled(True, type=tally.type, elapsed=self._now - lease.granted_at)

    def _end(self, grant: str, queue: str, result: bytes = b"") -> Ended:
        since = self._state.memory.since
        return Ended(
            queue, JobState.SUCCEEDED, self._now, self._remember_until, since, grant, result
        )

    def finish(self) -> None:
        if not self._jobs:
            return
        state, jobs = self._state, self._jobs
        ids = [job.id for job in jobs]
        for lease, leased in self._leased.values():
            state.leases.remove(lease, leased)
        for tally, count in by_tally(jobs).items():
            tally.depth[LEASED] -= count
            tally.totals.completed += count
            state.queues[tally.queue].live -= count
        state.drop_all(jobs)
        state.memory.remember_jobs(ids, self._remember_until, self._results_size)
        state.events.ended += ids
