"""Dead jobs, in the order in which they died."""

from collections.abc import Iterator
from heapq import merge

from towline_broker.domain.jobs import DeadReason
from towline_broker.drivers.interface import DeadFilter
from towline_broker.drivers.memory.lines import NumberedLine
from towline_broker.drivers.memory.records import Job

_Group = tuple[str, str, DeadReason | None]


class DeadLetters:
    """One line for each queue, type and reason: a filter picks lines and merges them."""

    def __init__(self) -> None:
        self._lines: dict[_Group, NumberedLine[Job]] = {}
        #: Job id to the number of its death.
        self._numbers: dict[str, int] = {}
        self._deaths = 0

    def add(self, job: Job) -> None:
        self._deaths += 1
        self._numbers[job.new.id] = self._deaths
        line = self._lines.get(_group(job))
        if line is None:
            line = self._lines[_group(job)] = NumberedLine()
        line.append(self._deaths, job)

    def remove(self, job: Job) -> None:
        self._lines[_group(job)].remove(self._numbers.pop(job.new.id))

    def number(self, job: Job) -> int:
        return self._numbers[job.new.id]

    def select(self, wanted: DeadFilter, after: int = 0) -> Iterator[tuple[int, Job]]:
        """Dead jobs that the filter matches, with the numbers of their deaths.

        Nothing may be added or removed while this is being read.
        """
        lines = (line.after(after) for group, line in self._lines.items() if _fits(group, wanted))
        for number, job in merge(*lines, key=lambda entry: entry[0]):
            died = job.finished_at or 0
            # Time never runs backwards, so neither do deaths.
            if wanted.dead_before is not None and died >= wanted.dead_before:
                return
            if wanted.dead_after is None or died >= wanted.dead_after:
                yield number, job

    def count(self, wanted: DeadFilter) -> int:
        if wanted.dead_after is not None or wanted.dead_before is not None:
            return sum(1 for _ in self.select(wanted))
        return sum(len(line) for group, line in self._lines.items() if _fits(group, wanted))


def _group(job: Job) -> _Group:
    return job.new.queue, job.new.type, job.dead_reason


def _fits(group: _Group, wanted: DeadFilter) -> bool:
    queue, type_, reason = group
    return (
        wanted.queue in (None, queue)
        and wanted.type in (None, type_)
        and wanted.reason in (None, reason)
    )
