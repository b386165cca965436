"""What a client takes of the processor, and what the machine does meanwhile."""

import os
import time
from pathlib import Path
from typing import NamedTuple, Self

#: Of the times that the kernel counts for all cores together, those that somebody has worked: user,
#: nice, system, and interrupts of both kinds.
_WORKED = (0, 1, 2, 5, 6)
_STAT = Path("/proc/stat")


class Used(NamedTuple):
    """Seconds of the processor."""

    own: float
    """By this process."""
    all: float
    """By every process of the machine."""

    @classmethod
    def now(cls) -> Self:
        ticks = _STAT.read_text().split("\n", 1)[0].split()[1:]
        worked = sum(int(ticks[place]) for place in _WORKED)
        return cls(time.process_time(), worked / os.sysconf("SC_CLK_TCK"))

    def since(self, before: "Used", jobs: int) -> dict[str, float]:
        """Microseconds for each of so many jobs."""
        own, everybody = (1e6 * (now - then) / jobs for now, then in zip(self, before, strict=True))
        return {"own": own, "all": everybody}
