"""When leases run out."""

from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import islice

from towline_broker.domain.time import Micros
from towline_broker.drivers.memory.lines import SWEEP_SLACK
from towline_broker.drivers.memory.records import Job


class Deadlines:
    """LEASED jobs by the time at which their lease runs out.

    The jobs of one grant have that time in common, and come and go together: so there is one entry
    for each time, with all of its jobs.
    """

    __slots__ = ("_jobs", "_times")

    def __init__(self) -> None:
        #: By time, then by id, in the order in which they were added.
        self._jobs: dict[Micros, dict[str, Job]] = {}
        #: A heap of all times; some have no jobs any more, and some stand there twice.
        self._times: list[Micros] = []

    def __iter__(self) -> Iterator[str]:
        """The ids of all jobs, in no order."""
        for jobs in self._jobs.values():
            yield from jobs

    def add(self, until: Micros, jobs: Mapping[str, Job]) -> None:
        """By their ids, and there must be one."""
        found = self._jobs.get(until)
        if found is None:
            found = self._jobs[until] = {}
            heappush(self._times, until)
        found.update(jobs)

    def remove(self, until: Micros, job_ids: Iterable[str]) -> None:
        """All of them must be there."""
        jobs = self._jobs[until]
        for job_id in job_ids:
            del jobs[job_id]
        if not jobs:
            del self._jobs[until]
            if len(self._times) > 2 * len(self._jobs) + SWEEP_SLACK:
                self._times[:] = self._jobs
                heapify(self._times)

    def first_time(self) -> Micros | None:
        times = self._times
        while times and times[0] not in self._jobs:
            heappop(times)
        return times[0] if times else None

    def due(self, now: Micros, limit: int) -> list[Job]:
        """Up to ``limit`` jobs whose time is not after ``now``, earliest first; they stay."""
        found: list[Job] = []
        seen: list[Micros] = []
        while len(found) < limit:
            first = self.first_time()
            if first is None or first > now:
                break
            heappop(self._times)
            if not seen or seen[-1] != first:
                seen.append(first)
                found += islice(self._jobs[first].values(), limit - len(found))
        for time in seen:
            heappush(self._times, time)
        return found
