"""Where the indexes by time begin (``sql/transaction.py`` says why that has to be known).

As long as looking from the beginning is fast, every look begins there. Once it has become slow,
looks begin at the earliest time that the last one found, and only now and then at the beginning,
for what may lie before: rows that another broker has put there, and changes that were rolled back.
"""

import time
from collections.abc import Callable

from towline_broker.domain.time import Micros

#: A look that takes longer, in seconds, is slow.
SLOW = 0.025
#: The least time between two looks from the beginning when they are slow, in seconds; and how many
#: times as long as they last. An orphan of a broker that is gone has to be seen within a second.
PAUSE, SHARE = 0.4, 10.0


class _Head:
    def __init__(self) -> None:
        self.mark: Micros = 0
        #: When a look from the beginning began that has not come back.
        self.began: float | None = None
        self.slow = False
        self.next_look = 0.0


class TimeHeads:
    """See :class:`towline_broker.drivers.sql.transaction.Heads`. Of one broker, for all its
    connections: that their looks overlap costs at most one look from the beginning."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heads: dict[str, _Head] = {}

    def since(self, index: str) -> Micros:
        head = self._heads.setdefault(index, _Head())
        if head.slow and self._clock() < head.next_look:
            return head.mark
        head.began = self._clock()
        return 0

    def reached(self, index: str, time: Micros | None) -> None:
        head = self._heads.setdefault(index, _Head())
        if time is not None:
            head.mark = time
        if head.began is not None:
            took = self._clock() - head.began
            head.began = None
            head.slow = took > SLOW
            head.next_look = self._clock() + max(PAUSE, SHARE * took)

    def appeared(self, index: str, time: Micros) -> None:
        head = self._heads.get(index)
        if head is not None:
            head.mark = min(head.mark, time)
