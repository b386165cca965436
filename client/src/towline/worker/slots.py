"""Which of the jobs that a worker holds run, and which of them wait for a slot.

Short jobs would be over long before the next ones are here, so a worker holds some ahead: as many
as are likely to begin within AHEAD seconds, by how long the last ones had their slots. While jobs
last longer than that it holds none but those that it runs, and no other worker waits for what this
one has taken and cannot begin. Should jobs turn out longer than those before them, what waits for
OVERDUE seconds is to be given back.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from towline.worker.attempt import Attempt

AHEAD = 0.025
"""Seconds within which a job that is held ahead is likely to begin."""

OVERDUE = 1.0
"""Seconds after which it does not wait here any longer."""

_WEIGHT = 1 / 8
"""Of the job that ended last in how long a job has its slot."""

_MOST = 8.0
"""Times as long as usual a job counts at most: one that the machine has kept waiting says little of
the others. Where jobs have become longer, some of them show it, or those that wait are OVERDUE."""


@dataclass(frozen=True)
class Standing:
    """free: slots; waiting: jobs held ahead; ahead: how many of them there should be at most."""

    free: int
    waiting: int
    ahead: int


class Slots:
    """The slots of one worker, and the line in front of them. Safe from any thread.

    ``prefetch`` is how many jobs may wait at most, however short they are.
    """

    def __init__(self, slots: int, prefetch: int) -> None:
        self._slots = slots
        self._prefetch = prefetch
        self._lock = threading.Lock()
        self._busy = 0
        self._waiting: deque[Attempt] = deque()
        self._low = 0
        self._usual: float | None = None

    @property
    def busy(self) -> int:
        """Slots whose jobs run, or are about to."""
        return self._busy

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def low(self) -> bool:
        """Whether it is time to ask for more jobs."""
        return len(self._waiting) <= self._low

    def standing(self) -> Standing:
        with self._lock:
            ahead = 0
            if self._usual is not None:
                ahead = int(min(self._prefetch, self._slots * AHEAD / self._usual))
            self._low = ahead // 2
            return Standing(self._slots - self._busy, len(self._waiting), ahead)

    def put(self, attempts: Sequence[Attempt]) -> Sequence[Attempt]:
        """Return those that have a slot, to be begun; the others wait."""
        now = time.monotonic()
        with self._lock:
            free = 0 if self._waiting else self._slots - self._busy
            begin = attempts[:free]
            self._busy += len(begin)
            for attempt in attempts:
                attempt.since = now
            self._waiting.extend(attempts[free:])
        return begin

    def end(self, attempt: Attempt) -> Attempt | None:
        """Give back the slot of a job that has ended; return the one that has it next."""
        now = time.monotonic()
        with self._lock:
            lasted = max(now - attempt.since, 1e-6)  # a clock may be coarse
            usual = self._usual
            if usual is None:
                self._usual = lasted
            else:
                self._usual = usual + (min(lasted, _MOST * usual) - usual) * _WEIGHT
            return self._next(now)

    def abandoned(self) -> Attempt | None:
        """``end`` for a job that goes on, and has its slot no more."""
        with self._lock:
            self._usual = None
            return self._next(time.monotonic())

    def _next(self, now: float) -> Attempt | None:
        if not self._waiting:
            self._busy -= 1
            return None
        attempt = self._waiting.popleft()
        attempt.since = now
        return attempt

    def take_back(self) -> list[Attempt]:
        """Return what waits, which is not going to begin here."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
            return waiting

    def take_overdue(self) -> list[Attempt]:
        """``take_back`` if a job waits for too long: those before it last longer than any before.

        None are held ahead from then on, until it is known how long jobs last now.
        """
        if self.patience() != 0:
            return []
        with self._lock:
            self._usual = None
        return self.take_back()

    def patience(self) -> float | None:
        """Seconds until a job has waited for too long; None: none waits."""
        with self._lock:
            if not self._waiting:
                return None
            return max(0.0, self._waiting[0].since + OVERDUE - time.monotonic())
