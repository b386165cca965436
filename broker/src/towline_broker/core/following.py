"""Following the clock of a store that several brokers share (P10).

Each broker carries the store's time on by its own monotonic clock, and looks at the store's clock
from time to time. Of a few readings the one with the shortest way there and back counts, for it can
be wrong by half of that way at most (F. Cristian, "Probabilistic clock synchronization", 1989).
"""

from typing import NamedTuple

from towline_broker.core.clock import SystemClock
from towline_broker.domain.outage import Outage
from towline_broker.domain.time import MILLISECOND, SECOND, Micros, to_seconds
from towline_broker.drivers.interface import PeerStore

#: Quartz drifts by some ten microseconds a second.
INTERVAL: Micros = 5 * SECOND
READINGS = 3
#: A correction of more than this is no drift: somebody has set a clock, or this machine was
#: suspended.
JUMP: Micros = 1 * SECOND
#: What is not known better than this is not worth a correction.
MOST_ERROR: Micros = 100 * MILLISECOND


class Reading(NamedTuple):
    #: How far the store's clock is ahead of ours.
    ahead: Micros
    #: By how much that may be wrong, in either direction.
    error: Micros


class Following:
    """Keeps one clock in step with one store."""

    def __init__(self, name: str, store: PeerStore, clock: SystemClock) -> None:
        self._store = store
        self._clock = clock
        #: A clock that is ahead stands still until the store's has come there, be it for hours.
        self._apart = Outage(
            f"the clock of store {name} has moved against this broker's, which follows it",
            f"this broker's clock goes with that of store {name} again",
        )

    async def look(self) -> None:
        """Raises StoreError."""
        best = min([await self._read() for _ in range(READINGS)], key=lambda one: one.error)
        if best.error > MOST_ERROR:
            return
        if abs(best.ahead) > JUMP:
            self._apart.failed(f"by {to_seconds(best.ahead):+.3f} s")
        else:
            self._apart.works()
        if abs(best.ahead) > best.error:
            self._clock.adjust(best.ahead)

    async def _read(self) -> Reading:
        asked = self._clock.now()
        told = await self._store.time(asked)
        answered = self._clock.now()
        return Reading(told - (asked + answered) // 2, (answered - asked + 1) // 2)
