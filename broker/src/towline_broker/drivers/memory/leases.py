"""The leases that live: which jobs have them, by their deadlines and by the requests that got
them."""

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice

from towline_broker.domain.time import Micros
from towline_broker.drivers.memory.lines import SWEEP_SLACK
from towline_broker.drivers.memory.records import Job, Lease


class LiveLeases:
    """The jobs of one grant have deadline and request in common, and come and go together."""

    __slots__ = ("_jobs", "_times", "requests")

    def __init__(self) -> None:
        #: By request_id, then by the id of the job.
        self.requests: dict[str, dict[str, Job]] = {}
        #: By deadline, then by id, in the order in which they were added.
        self._jobs: dict[Micros, dict[str, Job]] = {}
        #: A heap of all deadlines; some have no jobs any more, and some stand there twice.
        self._times: list[Micros] = []

    def __iter__(self) -> Iterator[str]:
        """The ids of all jobs, in no order."""
        for jobs in self._jobs.values():
            yield from jobs

    def add(self, lease: Lease, jobs: Sequence[Job]) -> None:
        """There must be one."""
        by_id = {job.id: job for job in jobs}
        if lease.request_id:
            self.requests.setdefault(lease.request_id, {}).update(by_id)
        found = self._jobs.get(lease.until)
        if found is not None:
            found.update(by_id)
        else:
            self._jobs[lease.until] = by_id
            heappush(self._times, lease.until)

    def remove(self, lease: Lease, job_ids: Sequence[str]) -> None:
        """All of them must be there."""
        if lease.request_id:
            request = self.requests[lease.request_id]
            for job_id in job_ids:
                del request[job_id]
            if not request:
                del self.requests[lease.request_id]
        jobs = self._jobs[lease.until]
        for job_id in job_ids:
            del jobs[job_id]
        if not jobs:
            del self._jobs[lease.until]
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
