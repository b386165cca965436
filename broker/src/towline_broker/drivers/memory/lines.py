"""The orders in which jobs wait: each costs O(log n) or less per change, whatever is in it."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice
from operator import itemgetter
from typing import Generic, TypeVar

from towline_broker.domain.time import Micros
from towline_broker.drivers.memory.parts import PartedDict
from towline_broker.drivers.memory.records import Job

K = TypeVar("K", bound=Hashable)
N = TypeVar("N", int, tuple[int, int])
T = TypeVar("T")

#: Stale entries are swept once they outnumber the valid ones by this many.
SWEEP_SLACK = 64


class NumberedLine(Generic[N, T]):
    """Items in the order of their numbers, which grow but for few, to be read on from any number.

    They stand in blocks, each a dict in the order of its numbers. A single dict would be copied as
    a whole whenever it grows, which with a million items stops everything for a tenth of a second;
    and to find its first item it walks over all that were removed in front of it.
    """

    __slots__ = ("_blocks", "_firsts", "_last", "_length", "_room")

    #: Items that are added to one block.
    BLOCK = 512

    def __init__(self) -> None:
        self._blocks: list[dict[N, T]] = []
        #: The number that each block begins with, or began with.
        self._firsts: list[N] = []
        #: The greatest number so far, and how many more the last block takes.
        self._last: N | None = None
        self._room = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        for block in self._blocks:
            yield from block.values()

    def add(self, number: N, item: T) -> None:
        """``number`` must not have been there before."""
        self._length += 1
        if self._last is not None and number < self._last:
            self._add_between(number, item)
            return
        self._last = number
        if self._room == 0:
            self._blocks.append({})
            self._firsts.append(number)
            self._room = self.BLOCK
        self._room -= 1
        self._blocks[-1][number] = item

    def extend(self, numbered: Sequence[tuple[N, T]]) -> None:
        """Adds many in rising order, all of them beyond the greatest number so far."""
        self._length += len(numbered)
        self._last = numbered[-1][0]
        added = 0
        while added < len(numbered):
            if self._room == 0:
                self._blocks.append({})
                self._firsts.append(numbered[added][0])
                self._room = self.BLOCK
            piece = numbered[added : added + self._room]
            self._blocks[-1].update(piece)
            self._room -= len(piece)
            added += len(piece)

    def _add_between(self, number: N, item: T) -> None:
        if not self._blocks:
            self._blocks.append({})
            self._firsts.append(number)
            self._room = self.BLOCK - 1
        index = max(0, bisect_right(self._firsts, number) - 1)
        block = {**self._blocks[index], number: item}
        self._blocks[index] = dict(sorted(block.items(), key=itemgetter(0)))
        self._firsts[index] = min(self._firsts[index], number)

    def remove(self, number: N) -> None:
        index = bisect_right(self._firsts, number) - 1
        del self._blocks[index][number]
        self._lost(index, 1)

    def remove_all(self, numbers: Iterable[N]) -> None:
        """All of them must be there."""
        left = sorted(numbers)
        begin = 0
        while begin < len(left):
            index = bisect_right(self._firsts, left[begin]) - 1
            block, end = self._blocks[index], len(left)
            if index + 1 < len(self._firsts):
                end = bisect_left(left, self._firsts[index + 1], begin)
            for number in left[begin:end]:
                del block[number]
            self._lost(index, end - begin)
            begin = end

    def remove_front(self, count: int) -> None:
        """Removes so many of what :meth:`front` tells, from the first on."""
        block = self._blocks[0]
        if count == len(block):
            block.clear()
        else:
            for number in list(islice(block, count)):
                del block[number]
        self._lost(0, count)

    def _lost(self, index: int, count: int) -> None:
        """The block has so many items less."""
        self._length -= count
        block = self._blocks[index]
        left = len(block)
        if not left:
            self._drop(index)
        elif left < self.BLOCK // 4 and left.bit_length() < (left + count).bit_length():
            # A dict that was once full stays as large; a copy is as large as it needs to be.
            self._blocks[index] = dict(block)

    def _drop(self, index: int) -> None:
        if index == len(self._blocks) - 1:
            self._room = 0
        del self._blocks[index], self._firsts[index]

    def first(self) -> T:
        """There must be one."""
        return next(iter(self._blocks[0].values()))

    def front(self, most: int) -> list[T]:
        """The first ones, of those that stand in one block. There must be one."""
        return list(islice(self._blocks[0].values(), most))

    def after(self, number: N) -> Iterator[tuple[N, T]]:
        """The items of greater numbers. Nothing may be removed while this is being read."""
        for block in self._blocks[max(0, bisect_right(self._firsts, number) - 1) :]:
            for found, item in block.items():
                if found > number:
                    yield found, item


class ReadyLine:
    """The READY jobs of one queue: by priority, then in the order in which they were added. Jobs
    leave from the middle as well: cancelled, purged, expired."""

    __slots__ = ("_by_priority", "_length", "_priorities")

    def __init__(self) -> None:
        #: By their places.
        self._by_priority: dict[int, NumberedLine[int, Job]] = {}
        #: Ascending, without empty ones.
        self._priorities: list[int] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Job]:
        for priority in reversed(self._priorities):
            yield from self._by_priority[priority]

    def add(self, job: Job) -> None:
        self._line(job.priority).add(job.place, job)
        self._length += 1

    def extend(self, priority: int, jobs: Sequence[Job]) -> None:
        """Adds many of one priority, whose places are behind all others of that priority."""
        self._line(priority).extend([(job.place, job) for job in jobs])
        self._length += len(jobs)

    def _line(self, priority: int) -> NumberedLine[int, Job]:
        line = self._by_priority.get(priority)
        if line is None:
            line = self._by_priority[priority] = NumberedLine()
            insort(self._priorities, priority)
        return line

    def remove(self, job: Job) -> None:
        self._by_priority[job.priority].remove(job.place)
        self._lost(job.priority, 1)

    def front(self, most: int) -> list[Job]:
        """The first ones, of one priority; perhaps fewer than there are, but none only if there is
        none."""
        if not self._priorities:
            return []
        return self._by_priority[self._priorities[-1]].front(most)

    def remove_front(self, jobs: Sequence[Job]) -> None:
        """Removes those with which its priority begins; there must be one."""
        priority = jobs[0].priority
        self._by_priority[priority].remove_front(len(jobs))
        self._lost(priority, len(jobs))

    def _lost(self, priority: int, count: int) -> None:
        self._length -= count
        if not self._by_priority[priority]:
            del self._by_priority[priority]
            self._priorities.remove(priority)

    def ready_since(self) -> Micros | None:
        """When the job that is READY for longest became so.

        Time never runs backwards, so that job is the first one of some priority (but for those that
        another store has sent, and that stand behind younger ones).
        """
        return min((line.first().available_at for line in self._by_priority.values()), default=None)


class Agenda(Generic[K]):
    """Keys, each with a time: a heap in which entries that were replaced go stale."""

    __slots__ = ("_added", "_current", "_heap", "_stale")

    def __init__(self) -> None:
        self._heap: list[tuple[Micros, int, K]] = []
        self._current: PartedDict[K, tuple[Micros, int, K]] = PartedDict()
        #: Of equal times, the one that was set first comes first.
        self._added = 0
        #: Entries of the heap that were replaced or discarded.
        self._stale = 0

    def set(self, key: K, at: Micros) -> None:
        self._added += 1
        entry = (at, self._added, key)
        replaces = key in self._current
        self._current[key] = entry
        heappush(self._heap, entry)
        if replaces:
            self._left_stale()

    def discard(self, key: K) -> None:
        if self._current.pop(key, None) is not None:
            self._left_stale()

    def __iter__(self) -> Iterator[K]:
        """In no order."""
        return iter(self._current)

    def first_time(self) -> Micros | None:
        entry = self._first()
        return None if entry is None else entry[0]

    def due(self, now: Micros, limit: int) -> list[K]:
        """Up to ``limit`` keys whose time is not after ``now``, earliest first; they stay."""
        found = self._pop_due(now, limit)
        for entry in found:
            heappush(self._heap, entry)
        return [key for _, _, key in found]

    def take_due(self, now: Micros, limit: int) -> list[K]:
        """As :meth:`due`, but they go."""
        found = self._pop_due(now, limit)
        for entry in found:
            del self._current[entry[2]]
        return [key for _, _, key in found]

    def _pop_due(self, now: Micros, limit: int) -> list[tuple[Micros, int, K]]:
        found: list[tuple[Micros, int, K]] = []
        while len(found) < limit:
            entry = self._first()
            if entry is None or entry[0] > now:
                break
            found.append(heappop(self._heap))
        return found

    def _first(self) -> tuple[Micros, int, K] | None:
        heap, current = self._heap, self._current
        while heap:
            if current.get(heap[0][2]) is heap[0]:
                return heap[0]
            heappop(heap)
            self._stale -= 1
        return None

    def _left_stale(self) -> None:
        self._stale += 1
        if 2 * self._stale > len(self._heap) + SWEEP_SLACK:
            # The same list: the garbage collector may have been told to leave it out.
            self._heap[:] = self._current.values()
            heapify(self._heap)
            self._stale = 0
