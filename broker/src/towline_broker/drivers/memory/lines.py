"""The orders in which jobs wait: each costs O(log n) or less per change, whatever is in it."""

from array import array
from bisect import bisect_right, insort
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from towline_broker.domain.time import Micros
from towline_broker.drivers.memory.records import Job

K = TypeVar("K", bound=Hashable)
N = TypeVar("N", int, tuple[int, int])
T = TypeVar("T")

#: Stale entries are swept once they outnumber the valid ones by this many.
SWEEP_SLACK = 64


class _Line:
    """Jobs in the order in which they were added, by their places.

    A dict alone would not do: finding its first entry walks over all that were removed in front of
    it. Nor would an OrderedDict: the garbage collector looks at all that is in it, every time.
    """

    __slots__ = ("_head", "_jobs", "_order")

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        #: Their places; may hold some of jobs that were removed.
        self._order = array("q")
        #: Where the first one may be in it.
        self._head = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def add(self, job: Job) -> None:
        self._jobs[job.place] = job
        self._order.append(job.place)

    def remove(self, job: Job) -> None:
        del self._jobs[job.place]
        if len(self._order) > 2 * len(self._jobs) + SWEEP_SLACK:
            self._order = array("q", self._jobs)
            self._head = 0

    def first(self) -> Job:
        """There must be one."""
        jobs, order, head = self._jobs, self._order, self._head
        while order[head] not in jobs:
            head += 1
        self._head = head
        return jobs[order[head]]


class ReadyLine:
    """The READY jobs of one queue: by priority, then in the order in which they were added. Jobs
    leave from the middle as well: cancelled, purged, expired."""

    __slots__ = ("_by_priority", "_length", "_priorities")

    def __init__(self) -> None:
        self._by_priority: dict[int, _Line] = {}
        #: Ascending, without empty ones.
        self._priorities: list[int] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Job]:
        for priority in reversed(self._priorities):
            yield from self._by_priority[priority]

    def add(self, job: Job) -> None:
        priority = job.priority
        line = self._by_priority.get(priority)
        if line is None:
            line = self._by_priority[priority] = _Line()
            insort(self._priorities, priority)
        line.add(job)
        self._length += 1

    def remove(self, job: Job) -> None:
        priority = job.priority
        line = self._by_priority[priority]
        line.remove(job)
        self._length -= 1
        if not line:
            del self._by_priority[priority]
            self._priorities.remove(priority)

    def first(self) -> Job | None:
        if not self._priorities:
            return None
        return self._by_priority[self._priorities[-1]].first()

    def ready_since(self) -> Micros | None:
        """When the job that is READY for longest became so.

        Time never runs backwards, so that job is the first one of some priority (but for those that
        another store has sent, and that stand behind younger ones).
        """
        return min((line.first().available_at for line in self._by_priority.values()), default=None)


class Agenda(Generic[K]):
    """Keys, each with a time: a heap in which entries that were replaced go stale."""

    __slots__ = ("_added", "_current", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[Micros, int, K]] = []
        self._current: dict[K, tuple[Micros, int, K]] = {}
        #: Of equal times, the one that was set first comes first.
        self._added = 0

    def set(self, key: K, at: Micros) -> None:
        self._added += 1
        entry = (at, self._added, key)
        self._current[key] = entry
        heappush(self._heap, entry)
        self._sweep()

    def discard(self, key: K) -> None:
        if self._current.pop(key, None) is not None:
            self._sweep()

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
        return None

    def _sweep(self) -> None:
        if len(self._heap) > 2 * len(self._current) + SWEEP_SLACK:
            # The same list: the garbage collector may have been told to leave it out.
            self._heap[:] = self._current.values()
            heapify(self._heap)


class NumberedLine(Generic[N, T]):
    """Items in the order of their numbers, which grow but for few, to be read on from any
    number."""

    __slots__ = ("_items", "_numbers")

    def __init__(self) -> None:
        self._items: dict[N, T] = {}
        #: Ascending; may hold numbers of items that were removed.
        self._numbers: list[N] = []

    def __len__(self) -> int:
        return len(self._items)

    def add(self, number: N, item: T) -> None:
        """``number`` must not have been there before."""
        self._items[number] = item
        if self._numbers and number < self._numbers[-1]:
            insort(self._numbers, number)
        else:
            self._numbers.append(number)

    def remove(self, number: N) -> None:
        del self._items[number]
        if len(self._numbers) > 2 * len(self._items) + SWEEP_SLACK:
            self._numbers[:] = sorted(self._items)

    def after(self, number: N) -> Iterator[tuple[N, T]]:
        """The items of greater numbers. Nothing may be removed while this is being read."""
        numbers, items = self._numbers, self._items
        for index in range(bisect_right(numbers, number), len(numbers)):
            found = numbers[index]
            if found in items:
                yield found, items[found]
