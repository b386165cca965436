"""Whether this process stood still: stopped by a signal, suspended with its machine, or stuck.

Meanwhile nobody could prolong or end a lease here. That is told by a timer that comes late, by the
clock of the event loop; what the store's clock says of it is only the time.
"""

import asyncio
import logging
from typing import NamedTuple

from towline_broker.core.clock import Clock
from towline_broker.domain.events import event
from towline_broker.domain.time import MILLISECOND, Micros

log = logging.getLogger("towline.broker")

#: Seconds between two looks, and by how much one is late if not only the machine was busy.
INTERVAL = 0.25
LATE = 1.0
#: For the calls that have come in meanwhile.
MARGIN: Micros = 500 * MILLISECOND


class Standstill(NamedTuple):
    began: Micros
    ended: Micros

    def covers(self, deadline: Micros) -> bool:
        """It was in that time, or so soon after it that nobody could do anything about it."""
        return self.began < deadline <= self.ended + MARGIN


class StandstillWatch:
    """Runs on the event loop from start to stop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: The last one, until it is forgotten.
        self.seen: Standstill | None = None
        self._well_at: Micros = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._look_next()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def forget(self, standstill: Standstill) -> None:
        """What had to be done about it is done."""
        if self.seen == standstill:
            self.seen = None

    def _look_next(self) -> None:
        loop = asyncio.get_running_loop()
        self._well_at = self._clock.now()
        self._due = loop.time() + INTERVAL
        self._timer = loop.call_at(self._due, self._look)

    def _look(self) -> None:
        late = asyncio.get_running_loop().time() - self._due
        if late > LATE:
            began = self._well_at if self.seen is None else self.seen.began
            self.seen = Standstill(began, self._clock.now())
            log.warning(
                "this broker stood still for %.1f s: it was stopped, or its machine was",
                late,
                extra=event("stood_still", seconds=round(late, 3)),
            )
        self._look_next()
