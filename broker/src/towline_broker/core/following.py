"""Following the clock of a store that several brokers share (P10).

Each broker carries the store's time on by its own monotonic clock, and looks at the store's clock
from time to time. Of a few readings the one with the shortest way there and back counts, for it can
be wrong by half of that way at most (F. Cristian, "Probabilistic clock synchronization", 1989).

When somebody sets the store's clock, the brokers go on as before, and tell each other by how much
their time is ahead of that clock from then on. Monotonic clocks stop while their machine sleeps,
but never run fast: of two brokers that disagree, the one that is ahead is right. So a broker goes
forward by more than its own clock did only where another broker's time has been already.
"""

import json
import logging
import secrets
from typing import NamedTuple

from towline_broker.core.clock import SystemClock
from towline_broker.domain.events import event
from towline_broker.domain.time import MILLISECOND, SECOND, Micros, to_seconds
from towline_broker.drivers.interface import PeerStore

log = logging.getLogger("towline.broker")

#: Quartz drifts by some ten microseconds a second.
INTERVAL: Micros = 5 * SECOND
READINGS = 3
#: A difference of more than this is no drift: somebody has set a clock, or a machine has slept.
JUMP: Micros = 1 * SECOND
#: By more than this another broker's time is ahead of ours only if this machine has slept.
AHEAD: Micros = 500 * MILLISECOND
#: What is not known better than this is not worth a correction.
MOST_ERROR: Micros = 100 * MILLISECOND
#: What a broker tells of the clock stands among the notices under a name that begins so.
_NOTICES = "clock-"
#: A notice stands for so long without its broker. Whoever starts later takes it up all the same, as
#: long as it is there.
TERM: Micros = 15 * SECOND


class Reading(NamedTuple):
    #: How far the store's clock is ahead of ours.
    ahead: Micros
    #: By how much that may be wrong, in either direction.
    error: Micros


class Shift(NamedTuple):
    """By how much the brokers' time is ahead of the store's clock."""

    #: Of what brokers have told, the highest counts.
    number: int = 0
    by: Micros = 0


class Told(NamedTuple):
    """What a broker has told of the clock."""

    shift: Shift = Shift()
    #: Its time when it told.
    at: Micros = 0


class Following:
    """Keeps one clock in step with one store."""

    def __init__(self, name: str, store: PeerStore, clock: SystemClock) -> None:
        self.name = name
        self._store = store
        self._clock = clock
        self._id = f"{_NOTICES}{secrets.token_hex(8)}"
        self._shift = Shift()

    async def begin(self) -> None:
        """Takes the time over from the brokers beside us, or before us. Raises StoreError."""
        told, best = await self._told(), await self._best()
        self._clock.begin_at(self._clock.now() + best.ahead + told.shift.by)
        await self._settle(told.shift)

    async def look(self) -> None:
        """Raises StoreError."""
        told, best = await self._told(), await self._best()
        if best.error > MOST_ERROR:
            return
        shift, ahead = told.shift, best.ahead + told.shift.by
        if ahead > JUMP and told.at > self._clock.now() + AHEAD:
            ahead -= self._wake(ahead, told.at)
        if abs(ahead) > JUMP:
            shift = Shift(shift.number + 1, shift.by - ahead)
            log.warning(
                "the clock of store %s was set by %+.3f s, or a machine has slept: leases and "
                "delays go on as before, now %+.3f s ahead of that clock",
                *(self.name, to_seconds(ahead), to_seconds(shift.by)),
                extra=event(
                    "store_clock_set",
                    store=self.name,
                    seconds=to_seconds(ahead),
                    ahead_seconds=to_seconds(shift.by),
                ),
            )
        elif abs(ahead) > best.error:
            self._clock.adjust(ahead)
        await self._settle(shift)

    def _wake(self, ahead: Micros, other: Micros) -> Micros:
        """Goes to where the others are, and returns how far that was: to what the store's clock
        says by their account, or, if that has been set meanwhile, to the time that one has told."""
        now = self._clock.now()
        slept = ahead if now + ahead <= other + 2 * INTERVAL else other - now
        log.warning(
            "this machine has slept for %.3f s, by what other brokers on store %s tell",
            *(to_seconds(slept), self.name),
            extra=event("machine_slept", store=self.name, seconds=to_seconds(slept)),
        )
        self._clock.adjust(slept)
        return slept

    async def _settle(self, shift: Shift) -> None:
        self._shift = shift
        self._clock.ahead_of_dates = shift.by
        if shift.number:
            now = self._clock.now()
            notice = json.dumps({**shift._asdict(), "at": now}).encode()
            await self._store.post(self._id, notice, now + TERM)

    async def _told(self) -> Told:
        """The shift that counts of those that all brokers have told, and the latest time."""
        notices = await self._store.notices(0)
        told = [_read(notice) for name, notice in notices.items() if is_about_the_clock(name)]
        shift = max([self._shift, *(each.shift for each in told)])
        return Told(shift, max((each.at for each in told), default=0))

    async def _best(self) -> Reading:
        return min([await self._read() for _ in range(READINGS)], key=lambda one: one.error)

    async def _read(self) -> Reading:
        asked = self._clock.now()
        told = await self._store.time(asked)
        answered = self._clock.now()
        return Reading(told - (asked + answered) // 2, (answered - asked + 1) // 2)


def is_about_the_clock(notice: str) -> bool:
    """Whether a notice of this name is one of those that are put up here."""
    return notice.startswith(_NOTICES)


def _read(notice: bytes) -> Told:
    try:
        content = json.loads(notice)
        return Told(Shift(int(content["number"]), int(content["by"])), int(content["at"]))
    except (ValueError, TypeError, LookupError):
        return Told()  # of a later release, perhaps: what it means is not known here
