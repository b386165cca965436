"""So many jobs in a span of time, and no more."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from towline.context import JobContext
from towline.control import Release
from towline.durations import Seconds, as_timedelta
from towline.errors import ConfigurationError, InvalidJob
from towline.middleware.selection import JobType, Key, Selection

LONGEST_DELAY = 3600.0
"""Seconds for which a job is put off at most; it is put off again if that was not enough."""

_SWEEP_FROM = 1000


class RateLimit:
    """At most ``limit`` jobs of a type begin in any span of ``per`` (seconds or a timedelta).

        RateLimit(100, per=60)                                          # of each type
        RateLimit(5, per=1, key=lambda job: job.customer, types=[SendInvoice])   # of each customer

    A job over the limit is released, its attempt not counted, with the delay after which there is
    room for it: other jobs run meanwhile, and the ones that wait come back in turn.

    ``key`` makes the key by which jobs are counted, instead of their type; None leaves a job alone.
    ``types`` are the types that are counted; by default all.

    It counts in the memory of this process. Several worker processes, and the children of a process
    pool, count each for itself: give each its share of the limit. Raises ConfigurationError.
    """

    def __init__(
        self,
        limit: int,
        per: Seconds,
        *,
        key: Key | None = None,
        types: Iterable[JobType] | None = None,
    ) -> None:
        self._limit = _whole(limit)
        self._per = _seconds(per)
        self._selection = Selection(types, key)
        self._lock = threading.Lock()
        self._windows: dict[Hashable, Window] = {}
        self._sweep_at = _SWEEP_FROM
        self._clock: Callable[[], float] = time.monotonic

    def handle(self, job: Any, context: JobContext) -> Iterator[None]:
        key = self._selection.key_of(job, context)
        if key is not None:
            delay = self._enter(key)
            if delay > 0:
                raise Release(
                    after=delay, reason=f"over the limit of {self._limit} in {self._per:g} s"
                )
        yield

    def _enter(self, key: Hashable) -> float:
        now = self._clock()
        with self._lock:
            window = self._windows.get(key)
            if window is None:
                self._sweep(now)
                window = self._windows[key] = Window(self._limit, self._per)
            return window.enter(now)

    def _sweep(self, now: float) -> None:
        """Forget keys of long ago, whenever their number has doubled."""
        if len(self._windows) >= self._sweep_at:
            self._windows = {key: w for key, w in self._windows.items() if not w.is_over(now)}
            self._sweep_at = max(_SWEEP_FROM, 2 * len(self._windows))


class Window:
    """When jobs began, and when those that were put off are to begin."""

    def __init__(self, limit: int, per: float) -> None:
        self._limit = limit
        self._per = per
        self._begun: deque[float] = deque(maxlen=limit)
        # The latest begins, with the future ones of jobs that were put off. A job that comes back
        # uses the room that it was promised, or other room; the promise is no more than a delay.
        self._planned: deque[float] = deque(maxlen=limit)

    def enter(self, now: float) -> float:
        """Return 0 and count a job that begins now, or the seconds until there is room for it."""
        if len(self._begun) < self._limit or self._begun[0] + self._per <= now:
            self._begun.append(now)
            if not self._planned or self._planned[-1] <= now:
                self._planned.append(now)
            return 0.0
        begin = max(self._planned[0] + self._per, self._begun[0] + self._per, self._planned[-1])
        if begin - now > LONGEST_DELAY:
            return LONGEST_DELAY
        self._planned.append(begin)
        return begin - now

    def is_over(self, now: float) -> bool:
        return max(self._planned[-1], self._begun[-1]) + self._per <= now


def _whole(limit: object) -> int:
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ConfigurationError(f"limit: expected a whole number of at least 1, got {limit!r}")
    return limit


def _seconds(per: Seconds) -> float:
    try:
        seconds = as_timedelta(per, "per").total_seconds()
    except InvalidJob as error:
        raise ConfigurationError(str(error)) from None
    if seconds == 0:
        raise ConfigurationError("per: expected more than 0 seconds")
    return seconds
