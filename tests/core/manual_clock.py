"""A clock in the hands of a test."""

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass

from towline_broker.domain.time import SECOND, Micros

START: Micros = 1_800_000_000 * SECOND


@dataclass(eq=False)
class ManualTimer:
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """Stands still until :meth:`advance` is called, which fires what falls due on the way."""

    def __init__(self) -> None:
        self._now = START
        self._timers: list[tuple[Micros, int, ManualTimer]] = []

    def now(self) -> Micros:
        return self._now

    def not_before(self, moment: Micros) -> None:
        self._now = max(self._now, moment)

    def of_date(self, date: Micros) -> Micros:
        return date

    def call_at(self, when: Micros, callback: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer(callback)
        heapq.heappush(self._timers, (when, id(timer), timer))
        return timer

    async def advance(self, by: Micros) -> None:
        """Lets everything that is under way come to rest at each moment at which a timer fires."""
        await come_to_rest()
        target = self._now + by
        while self._timers and self._timers[0][0] <= target:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            if not timer.cancelled:
                timer.callback()
                await come_to_rest()
        self._now = target
        await come_to_rest()


async def come_to_rest() -> None:
    """Gives every task that can run its turn: over the memory driver nothing waits for I/O."""
    for _ in range(50):
        await asyncio.sleep(0)
