"""The settle memory (P4): how jobs and leases ended, though they are gone."""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

from msgspec import Struct

from towline_broker.domain.jobs import JobRecord, JobState, LeaseRef, Settlement
from towline_broker.domain.time import Micros
from towline_broker.drivers.memory.changes import Changes
from towline_broker.drivers.memory.parts import PartedDict
from towline_broker.drivers.memory.runs import LeaseKey, Memory, Run, runs_of

#: What one settle memory costs beside the result in it.
MEMORY_OVERHEAD = 500


class Ended(Struct, frozen=True, gc=False, eq=False):
    """How a job ended. Jobs of one call that ended alike have it in common."""

    queue: str
    state: JobState
    finished_at: Micros
    #: Remembered until then.
    until: Micros
    #: No memory of a lower number is one of this end.
    since: int
    #: Of the lease that was acknowledged, if it ended so: then this is the memory of that, too.
    grant: str | None = None
    result: bytes = b""


class SettleMemory:
    """How jobs and leases ended, until :meth:`forget` comes past their time."""

    def __init__(self) -> None:
        #: By the ids of the jobs.
        self.jobs: PartedDict[str, Ended] = PartedDict()
        self._leases: PartedDict[LeaseKey, Settlement] = PartedDict()
        #: A heap; some memories in it were forgotten before their time.
        self._runs: list[Run] = []
        self._added = 0
        self.changes: Changes | None = None
        #: About how many bytes all of it takes.
        self.size = 0

    def __contains__(self, job_id: str) -> bool:
        return job_id in self.jobs

    def __len__(self) -> int:
        return len(self.jobs) + len(self._leases)

    # --- adding -------------------------------------------------------------------------------

    @property
    def since(self) -> int:
        """The number that the next memory will have at least."""
        return self._added + 1

    def remember_lease(self, ref: LeaseRef, settlement: Settlement, until: Micros) -> None:
        """Of a lease that did not end by an Ack, or whose job is remembered no longer."""
        key = (ref.queue, ref.job_id, ref.grant)
        self._leases[key] = settlement
        self.size += MEMORY_OVERHEAD
        self._add(Run(until, self.since, leases=(key,)))

    def remember_job(self, job_id: str, ended: Ended) -> None:
        self.jobs[job_id] = ended
        self.size += MEMORY_OVERHEAD + len(ended.result)
        self._add(Run(ended.until, self.since, (job_id,)))

    def remember_jobs(self, job_ids: Sequence[str], until: Micros, results_size: int) -> None:
        """That are in :attr:`jobs` already."""
        self.size += MEMORY_OVERHEAD * len(job_ids) + results_size
        self._add(Run(until, self.since, tuple(job_ids)))

    def _add(self, run: Run) -> None:
        self._added += len(run)
        heappush(self._runs, run)
        if self.changes is not None:
            self.changes.remembered.append(run)

    def restore(
        self,
        jobs: Iterable[tuple[int, str, Ended]],
        leases: Iterable[tuple[Micros, int, LeaseKey, Settlement]],
        added: int,
    ) -> None:
        """All that is known from records, each once: of jobs with the number of the memory, of
        leases with end and number of it. ``added``: the greatest number that any memory ever
        had."""
        memories: list[Memory] = []
        for number, job_id, ended in jobs:
            self.jobs[job_id] = ended
            self.size += len(ended.result)
            memories.append((ended.until, number, job_id, None))
        for until, number, lease, settlement in leases:
            self._leases[lease] = settlement
            memories.append((until, number, "", lease))
        self.size += MEMORY_OVERHEAD * len(memories)
        self._runs = runs_of(memories)  # which is a heap as well
        self._added = max(self._added, added)

    # --- looking ------------------------------------------------------------------------------

    def settlement(self, ref: LeaseRef) -> Settlement | None:
        settlement = self._leases.get(ref)
        if settlement is not None:
            return settlement
        ended = self.jobs.get(ref.job_id)
        if ended is None or (ended.grant, ended.queue) != (ref.grant, ref.queue):
            return None
        return Settlement.ACKED

    def state(self, job_id: str) -> JobState | None:
        ended = self.jobs.get(job_id)
        return None if ended is None else ended.state

    def record(self, job_id: str) -> JobRecord | None:
        ended = self.jobs.get(job_id)
        if ended is None:
            return None
        return JobRecord.remembered(
            job_id, ended.queue, ended.state, ended.finished_at, ended.result
        )

    def keeps(self, memory: Memory) -> bool:
        """Whether it is not forgotten yet."""
        _, number, job_id, lease = memory
        if lease is not None:
            return lease in self._leases
        ended = self.jobs.get(job_id)
        return ended is not None and ended.since <= number

    # --- forgetting ---------------------------------------------------------------------------

    def forget_job(self, job_id: str) -> None:
        """Before its time. How its leases ended is kept."""
        ended = self.jobs.pop(job_id, None)
        if ended is None:
            return
        self.size -= MEMORY_OVERHEAD + len(ended.result)
        if self.changes is not None:
            self.changes.disowned.append(job_id)
        if ended.grant is not None:
            ref = LeaseRef(ended.queue, job_id, ended.grant)
            self.remember_lease(ref, Settlement.ACKED, ended.until)

    def forget(self, now: Micros, limit: int) -> int:
        forgotten = 0
        last: Run | None = None
        while forgotten < limit and self._runs and self._runs[0].until <= now:
            last, rest = heappop(self._runs).split(limit - forgotten)
            if rest is not None:
                heappush(self._runs, rest)
            forgotten += self._forget(last)
        if last is not None and self.changes is not None:
            self.changes.forgotten = (last.until, last.number + len(last) - 1)
        return forgotten

    def _forget(self, run: Run) -> int:
        """Returns how many of them were not forgotten before."""
        forgotten = 0
        for memory in run:
            if self.keeps(memory):
                forgotten += 1
                _, _, job_id, lease = memory
                if lease is not None:
                    del self._leases[lease]
                else:
                    self.size -= len(self.jobs[job_id].result)
                    del self.jobs[job_id]
        self.size -= MEMORY_OVERHEAD * forgotten
        return forgotten
