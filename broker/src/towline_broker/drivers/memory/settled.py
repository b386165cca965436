"""What outlives a job: the settle memory (P4) and unique keys held for a time of their own."""

from collections.abc import Iterable
from heapq import heappop, heappush
from operator import itemgetter

from towline_broker.domain.jobs import JobRecord, JobState, LeaseRef, Settlement
from towline_broker.domain.time import Micros
from towline_broker.drivers.memory.changes import Changes, Memory
from towline_broker.drivers.memory.lines import Agenda
from towline_broker.drivers.memory.parts import PartedDict

#: What one settle memory costs beside the result in it.
MEMORY_OVERHEAD = 500

# There may be millions. The garbage collector stops tracking a plain tuple of plain values, which
# an enumeration's members are not: hence the state as an int.
#: Queue, state, result, time of the end, and the number of its memory.
Ended = tuple[str, int, bytes, Micros, int]
_Lease = tuple[str, str, str]


class SettleMemory:
    """How jobs and leases ended, until :meth:`forget` comes past their time."""

    def __init__(self) -> None:
        #: Those that have ended, by their ids.
        self.jobs: PartedDict[str, Ended] = PartedDict()
        self._leases: PartedDict[_Lease, Settlement] = PartedDict()
        self._until: list[Memory] = []
        self._added = 0
        self.changes: Changes | None = None
        #: About how many bytes all of it takes.
        self.size = 0

    def __contains__(self, job_id: str) -> bool:
        return job_id in self.jobs

    def remember_lease(self, ref: LeaseRef, settlement: Settlement, until: Micros) -> None:
        key = (ref.queue, ref.job_id, ref.grant)
        self._leases[key] = settlement
        self._add(until, "", key)
        self.size += MEMORY_OVERHEAD

    def remember_job(
        self,
        job_id: str,
        queue: str,
        state: JobState,
        finished_at: Micros,
        until: Micros,
        result: bytes = b"",
    ) -> None:
        number = self._add(until, job_id, None)
        self.jobs[job_id] = (queue, int(state), result, finished_at, number)
        self.size += MEMORY_OVERHEAD + len(result)

    def settlement(self, ref: LeaseRef) -> Settlement | None:
        return self._leases.get(ref)

    def restore(
        self,
        ended: Iterable[tuple[Memory, Ended]],
        settled: Iterable[tuple[Memory, Settlement]],
        added: int,
    ) -> None:
        """All that is known from records, of jobs and of leases, each once; ``added``: the greatest
        number that any memory ever had."""
        jobs, leases, until = self.jobs, self._leases, self._until
        for memory, job in ended:
            jobs[memory[2]] = job
            until.append(memory)
            self.size += MEMORY_OVERHEAD + len(job[2])
        for memory, settlement in settled:
            if memory[3] is not None:
                leases[memory[3]] = settlement
                until.append(memory)
                self.size += MEMORY_OVERHEAD
        until.sort(key=itemgetter(0, 1))  # which is a heap as well
        self._added = max(self._added, added)

    def __len__(self) -> int:
        return len(self.jobs) + len(self._leases)

    def state(self, job_id: str) -> JobState | None:
        ended = self.jobs.get(job_id)
        return None if ended is None else JobState(ended[1])

    def ended(self, job_id: str) -> tuple[str, int, bytes, Micros]:
        """Queue, state, result and time of the end of a remembered job."""
        return self.jobs[job_id][:4]

    def record(self, job_id: str) -> JobRecord | None:
        ended = self.jobs.get(job_id)
        if ended is None:
            return None
        queue, state, result, finished_at, _ = ended
        return JobRecord.remembered(job_id, queue, JobState(state), finished_at, result)

    def forget_job(self, job_id: str) -> None:
        """Before its time. How its leases ended is kept."""
        ended = self.jobs.pop(job_id, None)
        if ended is not None:
            self.size -= MEMORY_OVERHEAD + len(ended[2])
            if self.changes is not None:
                self.changes.disowned.append(job_id)

    def forget(self, now: Micros, limit: int) -> int:
        forgotten = 0
        last: Memory | None = None
        while forgotten < limit and self._until and self._until[0][0] <= now:
            last = heappop(self._until)
            forgotten += self._forget(last)
        if last is not None and self.changes is not None:
            self.changes.forgotten = last[:2]
        return forgotten

    def _forget(self, memory: Memory) -> bool:
        """False if it was forgotten before."""
        if not self.keeps(memory):
            return False
        _, _, job_id, lease = memory
        self.size -= MEMORY_OVERHEAD
        if lease is not None:
            del self._leases[lease]
        else:
            self.size -= len(self.jobs[job_id][2])
            del self.jobs[job_id]
        return True

    def keeps(self, memory: Memory) -> bool:
        """Whether it is not forgotten yet."""
        _, number, job_id, lease = memory
        if lease is not None:
            return lease in self._leases
        ended = self.jobs.get(job_id)
        return ended is not None and ended[-1] == number

    def _add(self, until: Micros, job_id: str, lease: _Lease | None) -> int:
        self._added += 1
        memory = (until, self._added, job_id, lease)
        heappush(self._until, memory)
        if self.changes is not None:
            self.changes.remembered.append(memory)
        return self._added


class UniqueKeys:
    """Which job holds which key of which queue."""

    def __init__(self) -> None:
        #: (queue, key) to the holder's id and the time until which it is held whatever happens.
        self._held: dict[tuple[str, str], tuple[str, Micros | None]] = {}
        self._until: Agenda[tuple[str, str]] = Agenda()
        self.changes: Changes | None = None

    def holder(self, queue: str, key: str, now: Micros) -> str | None:
        held = self._held.get((queue, key))
        if held is None or (held[1] is not None and held[1] <= now):
            return None
        return held[0]

    def held(self, queue: str, key: str) -> tuple[str, Micros | None] | None:
        """Who holds it, and until when if it is for a time of its own, whether that is over or
        not."""
        return self._held.get((queue, key))

    def restore(self, queue: str, key: str, holder: str | None, until: Micros | None) -> None:
        if holder is not None:
            self.take(queue, key, holder, until)
        elif self._held.pop((queue, key), None) is not None:
            self._until.discard((queue, key))

    def is_held_by(self, queue: str, key: str, job_id: str) -> bool:
        """Whether its time is over or not."""
        held = self._held.get((queue, key))
        return held is not None and held[0] == job_id

    def take(self, queue: str, key: str, job_id: str, until: Micros | None) -> None:
        self._held[queue, key] = (job_id, until)
        if until is None:
            self._until.discard((queue, key))
        else:
            self._until.set((queue, key), until)
        self._note(queue, key)

    def job_ended(self, queue: str, key: str, job_id: str) -> None:
        """Frees the key, unless it is held for a time of its own or by another job by now."""
        if self._held.get((queue, key)) == (job_id, None):
            del self._held[queue, key]
            self._note(queue, key)

    def free(self, queue: str, key: str, job_id: str) -> None:
        """Frees the key, unless it is held by another job by now."""
        held = self._held.get((queue, key))
        if held is not None and held[0] == job_id:
            del self._held[queue, key]
            self._until.discard((queue, key))
            self._note(queue, key)

    def forget(self, now: Micros, limit: int) -> int:
        past = self._until.take_due(now, limit)
        for name in past:
            del self._held[name]
            self._note(*name)
        return len(past)

    def _note(self, queue: str, key: str) -> None:
        if self.changes is not None:
            self.changes.keys[queue, key] = None
