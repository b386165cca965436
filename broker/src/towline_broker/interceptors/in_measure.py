"""Lines of the log that callers can bring about: one of a kind in so many seconds."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

QUIET_SECONDS = 10.0
#: Kinds that are remembered: of further ones, those told longest ago are forgotten.
MOST_REMEMBERED = 1_000


class InMeasure:
    """Bounded, whoever calls and however often."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: When a line was written last, and how much was passed over since.
        self._lines: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._lines)

    def passed_over(self, kind: Hashable, times: int = 1) -> int | None:
        """How many were passed over since the last line of this kind; None: this one is, too."""
        now = self._clock()
        told, count = self._lines.get(kind, (-QUIET_SECONDS, 0))
        if now - told < QUIET_SECONDS:
            self._lines[kind] = (told, count + times)
            return None
        self._lines[kind] = (now, 0)
        self._lines.move_to_end(kind)
        if len(self._lines) > MOST_REMEMBERED:
            self._lines.popitem(last=False)
        return count


def and_more(passed_over: int) -> str:
    """For the end of a line."""
    return f" (and {passed_over} more since the last such line)" if passed_over else ""
