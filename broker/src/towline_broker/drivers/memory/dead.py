"""Dead jobs, in the order in which they died."""

from collections.abc import Iterator
from heapq import merge

from towline_broker.domain.jobs import DeadReason
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import DeadFilter
from towline_broker.drivers.memory.lines import NumberedLine
from towline_broker.drivers.memory.records import Job

#: When a job died, and the place that it took then.
Death = tuple[Micros, int]
#: Before all deaths.
BEFORE_ALL: Death = (0, 0)

_Group = tuple[str, str, DeadReason | None]


class DeadLetters:
    """One line for each queue, type and reason: a filter picks lines and merges them."""

    def __init__(self) -> None:
        self._lines: dict[_Group, NumberedLine[Death, Job]] = {}

    def add(self, job: Job) -> None:
        death = self.death(job)
        line = self._lines.get(_group(job))
        if line is None:
            line = self._lines[_group(job)] = NumberedLine()
        line.add(death, job)

    def remove(self, job: Job) -> None:
        self._lines[_group(job)].remove(self.death(job))

    @staticmethod
    def death(job: Job) -> Death:
        return job.finished_at or 0, job.place

    def select(self, wanted: DeadFilter, after: Death = BEFORE_ALL) -> Iterator[tuple[Death, Job]]:
        """Dead jobs that the filter matches, in the order of their deaths.

        Nothing may be added or removed while this is being read.
        """
        lines = (line.after(after) for group, line in self._lines.items() if _fits(group, wanted))
        for death, job in merge(*lines, key=lambda entry: entry[0]):
            died = death[0]
            if wanted.dead_before is not None and died >= wanted.dead_before:
                return
            if wanted.dead_after is None or died >= wanted.dead_after:
                yield death, job

    def count(self, wanted: DeadFilter) -> int:
        if wanted.dead_after is not None or wanted.dead_before is not None:
            return sum(1 for _ in self.select(wanted))
        return sum(len(line) for group, line in self._lines.items() if _fits(group, wanted))


def _group(job: Job) -> _Group:
    return job.queue, job.type, job.dead_reason


def _fits(group: _Group, wanted: DeadFilter) -> bool:
    queue, type_, reason = group
    return (
        wanted.queue in (None, queue)
        and wanted.type in (None, type_)
        and wanted.reason in (None, reason)
    )
