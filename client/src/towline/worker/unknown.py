"""Jobs of types that this worker does not know.

Work is routed by queue, so another worker of the queue may know the type: the job is given back,
its attempt not counted, and rests for a while so that it does not come straight back. The more
jobs of a type this worker meets, the longer each rests.
"""

from __future__ import annotations

FIRST_DELAY = 5.0
LONGEST_DELAY = 60.0
"""Seconds for which a job that was given back is not leased again."""

MAX_TYPES = 10_000
"""Types that are remembered; types come from outside, so their number must be bounded."""


class UnknownTypes:
    """How often each unknown type was met. For one thread."""

    def __init__(self) -> None:
        self._met: dict[str, int] = {}

    def meet(self, job_type: str) -> tuple[int, float]:
        """Return how often the type was met, this time included, and how long its job is to rest.

        The delay is in seconds and doubles from 5 to 60.
        """
        if job_type not in self._met and len(self._met) >= MAX_TYPES:
            self._met.clear()
        times = self._met.get(job_type, 0) + 1
        self._met[job_type] = times
        return times, min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(times - 1, 10))
