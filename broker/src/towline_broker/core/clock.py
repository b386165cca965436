"""Time, injected everywhere (P10)."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from towline_broker.domain.time import SECOND, Micros


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """The one clock of a store. Never runs backwards."""

    def now(self) -> Micros: ...

    def not_before(self, moment: Micros) -> None:
        """From here on ``now`` is at least ``moment``: the store has seen that time already."""

    def of_date(self, date: Micros) -> Micros:
        """What ``now`` tells at a date that somebody has named, such as a job's ``run_at``."""

    def call_at(self, when: Micros, callback: Callable[[], None]) -> Timer:
        """Calls back on the event loop once ``now`` has reached ``when``."""


class SystemClock:
    """The wall clock as it was when the broker started, carried on by the monotonic clock.

    A jump of the machine's wall clock therefore changes no lease and no delay.
    """

    def __init__(
        self,
        wall: Callable[[], int] | None = None,
        monotonic: Callable[[], int] | None = None,
    ) -> None:
        """What to tell the time by in place of the machine's clocks, both in nanoseconds."""
        self._monotonic = monotonic or time.monotonic_ns
        self._offset = (wall or time.time_ns)() // 1_000 - self._monotonic() // 1_000
        self._latest: Micros = 0
        #: By how much ``now`` is ahead of the dates that the store's own clock tells: that clock
        #: was set, and this one goes on as before.
        self.ahead_of_dates: Micros = 0

    def now(self) -> Micros:
        now = self._monotonic() // 1_000 + self._offset
        if now > self._latest:  # called several times for each call, so not by max()
            self._latest = now
        return self._latest

    def not_before(self, moment: Micros) -> None:
        self._offset += max(0, moment - self.now())

    def of_date(self, date: Micros) -> Micros:
        return date + self.ahead_of_dates

    def begin_at(self, moment: Micros) -> None:
        """Goes on from ``moment``, be it in the past: for a clock that nobody has gone by yet."""
        self._latest = 0
        self._offset = moment - self._monotonic() // 1_000

    def adjust(self, by: Micros) -> None:
        """Goes on from a time that lies so much later than ``now``. If that is in the past, it
        stands still until it has come there."""
        self._offset = self.now() + by - self._monotonic() // 1_000

    def call_at(self, when: Micros, callback: Callable[[], None]) -> Timer:
        delay = max(0, when - self.now()) / SECOND
        return asyncio.get_running_loop().call_later(delay, callback)
