"""How deep queues are, as far as need be known to be sure that they do not fill up.

To add up the counters of all connections for each push would cost more than most of the push, and
the limit of a queue is mostly far away. So a broker does that about once a second, and each time
for a queue that may be near its limit.

Even then the limit can be overrun by what is under way at the same moment: pushes do not see each
other before they are committed.
"""

import time
from collections.abc import Callable

#: For how long a depth is good, in seconds; and more jobs than brokers can push within that.
_GOOD_FOR, _MOST_PUSHED = 1.0, 200_000


class _Depth:
    def __init__(self, depth: int, read_at: float) -> None:
        self.depth = depth
        self.read_at = read_at


class LiveDepths:
    """See :class:`towline_broker.drivers.sql.transaction.Depths`. Of one broker, for all its
    connections."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._depths: dict[str, _Depth] = {}

    def surely_below(self, limit: int, queue: str, pushed: int) -> bool:
        found = self._depths.get(queue)
        if found is None or self._clock() - found.read_at > _GOOD_FOR:
            return False
        found.depth += pushed
        return found.depth + _MOST_PUSHED < limit

    def read(self, queue: str, depth: int) -> None:
        self._depths[queue] = _Depth(depth, self._clock())
