"""The order in which settle memories are forgotten: those of one call together."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from msgspec import Struct

from towline_broker.domain.time import Micros

#: The queue, job and grant of a lease.
LeaseKey = tuple[str, str, str]

#: One memory: until when it is kept, its number, the id of the job or else the lease.
Memory = tuple[Micros, int, str, LeaseKey | None]


class Run(Struct, frozen=True, order=True, gc=False):
    """Memories that are kept until the same time and whose numbers follow each other: either of
    jobs or of leases. By the time, then by the number."""

    until: Micros
    #: Of the first one.
    number: int
    jobs: tuple[str, ...] = ()
    leases: tuple[LeaseKey, ...] = ()

    def __len__(self) -> int:
        return len(self.jobs) + len(self.leases)

    def __iter__(self) -> Iterator[Memory]:
        until = self.until
        for number, job_id in enumerate(self.jobs, self.number):
            yield until, number, job_id, None
        for number, lease in enumerate(self.leases, self.number):
            yield until, number, "", lease

    def split(self, count: int) -> "tuple[Run, Run | None]":
        """The first ones, and the others."""
        if count >= len(self):
            return self, None
        return (
            Run(self.until, self.number, self.jobs[:count], self.leases[:count]),
            Run(self.until, self.number + count, self.jobs[count:], self.leases[count:]),
        )


def runs_of(memories: Iterable[Memory]) -> list[Run]:
    """In their order."""
    runs: list[Run] = []
    in_order = enumerate(sorted(memories, key=_place))
    for (until, _, is_lease), run in groupby(in_order, key=_kind):
        found = [memory for _, memory in run]
        number = found[0][1]
        if is_lease:
            runs.append(Run(until, number, leases=tuple(m[3] for m in found if m[3] is not None)))
        else:
            runs.append(Run(until, number, tuple(job_id for _, _, job_id, _ in found)))
    return runs


def _place(memory: Memory) -> tuple[Micros, int]:
    return memory[:2]


def _kind(numbered: tuple[int, Memory]) -> tuple[Micros, int, bool]:
    """The same for memories of one run, of which the index grows as their number does."""
    index, (until, number, _, lease) = numbered
    return until, number - index, lease is not None
