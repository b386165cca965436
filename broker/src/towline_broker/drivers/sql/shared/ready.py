"""Where the lines of READY jobs begin.

A line is the READY jobs of one queue and priority; places in it only grow. What was claimed leaves
entries at the head of the index, which a database keeps until nobody can see them any more: while
any session holds an old transaction open, that is all of them. So a broker remembers for each line
up to where it has claimed, and looks from there on.

Of two changes at the same time the one that took its places first may be committed last. So no mark
passes the places of a change of this broker that is not over, nor of one that began while the claim
was looking, nor those of jobs that another claim gave back meanwhile: whoever claims after the
answer to a push finds its jobs in their order.

Jobs may come to lie before a mark nevertheless: other brokers change the same queue, and a claim
may be rolled back. So a claim that comes back short looks from the beginning of the queue as well.
That is fast, unless very much has died there; then it is done for no more than a tenth of the time,
and a claim that comes too soon leaves it to a timer. Where claims never come back short, one now
and then looks from the beginning nevertheless.

A claim passes over what another has locked at the moment, and that one's broker may die. So some
time after a claim that came back short a timer looks once more. Jobs that a timer finds are told of
like new ones.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from towline_broker.drivers.sql.transaction import Row

#: The least time between two looks from the beginning of a queue, in seconds; and how many times as
#: long as such a look lasts.
PAUSE, SHARE = 0.02, 10.0
#: When a claim came back short, it is looked once more after so many seconds.
ONCE_MORE = 1.0
#: So many times as long after a look as another one is allowed, it is due in any case.
OVERDUE = 5.0

_NO_BOUND = 1 << 63

#: Columns of a row of ``next_ready``.
PRIORITY, POSITION = 1, 2


class _Queue:
    def __init__(self) -> None:
        self.next_look = 0.0
        self.overdue = 0.0
        #: By priority; none: from the beginning.
        self.marks: dict[int, int] = {}


class Bound:
    """A place that no mark passes."""

    __slots__ = ("place",)

    def __init__(self, place: int) -> None:
        self.place = place


class ReadyLines:
    """Of one broker, for all its connections."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._queues: dict[int, _Queue] = {}
        #: Of changes that are not over.
        self._changes: set[Bound] = set()
        #: Of claims that are looking.
        self._looks: set[Bound] = set()
        #: The last place that is known to be taken.
        self._last = 0

    # --- changes that take places ---

    def change_begins(self) -> Bound:
        """Before it asks for its places: they will lie behind all that are taken by then."""
        bound = Bound(self._last + 1)
        self._changes.add(bound)
        for look in self._looks:
            look.place = min(look.place, bound.place)
        return bound

    def change_has(self, bound: Bound, first: int) -> None:
        """The change has its places, from this one on."""
        bound.place = first
        self._last = max(self._last, first)

    def change_ends(self, bound: Bound) -> None:
        """It is committed, or was rolled back."""
        self._changes.discard(bound)

    # --- claims ---

    @contextmanager
    def look(self) -> Iterator[Bound]:
        """While a claim looks for jobs."""
        look = Bound(min((change.place for change in self._changes), default=_NO_BOUND))
        self._looks.add(look)
        try:
            yield look
        finally:
            self._looks.remove(look)

    def mark(self, queue: int, priority: int) -> int:
        """The first place in the line that may hold a job."""
        return self._of(queue).marks.get(priority, 0)

    def claimed(self, queue: int, rows: Sequence[Row], look: Bound) -> None:
        """These were found, in their order; up to the bound of that look nothing else lies before
        them in their lines."""
        marks = self._of(queue).marks
        for row in rows:
            marks[row[PRIORITY]] = min(row[POSITION] + 1, look.place)
            self._last = max(self._last, row[POSITION])

    def returned(self, queue: int, rows: Sequence[Row]) -> None:
        """These are READY still, or again. Claims that are looking may have passed over them."""
        marks = self._of(queue).marks
        for row in rows:
            mark = marks.get(row[PRIORITY], 0)
            marks[row[PRIORITY]] = min(mark, row[POSITION])
        first = min((row[POSITION] for row in rows), default=_NO_BOUND)
        for look in self._looks:
            look.place = min(look.place, first)

    def pause(self, queue: int) -> float:
        """Seconds until a look from the beginning is allowed."""
        return max(0.0, self._of(queue).next_look - self._clock())

    def overdue(self, queue: int) -> bool:
        """Nobody has looked from the beginning for long."""
        return self._clock() > self._of(queue).overdue

    def looked(self, queue: int, began: float) -> None:
        """From the beginning, since that time."""
        now = self._clock()
        pause = max(PAUSE, SHARE * (now - began))
        found = self._of(queue)
        found.next_look, found.overdue = now + pause, now + OVERDUE * pause

    def forget(self, queue: int) -> None:
        """Claims look from the beginning."""
        self._of(queue).marks.clear()

    def now(self) -> float:
        return self._clock()

    def _of(self, queue: int) -> _Queue:
        found = self._queues.get(queue)
        if found is None:
            found = self._queues[queue] = _Queue()
        return found
