"""What the stores hold, for whoever looks again and again.

Unlike a report, which an operator asks for, a look must not cost more the more often somebody
looks, and a store that gives no answer must not hold up what is told of the others.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from towline_broker.core.owned import OwnedTasks
from towline_broker.core.peers import Peers
from towline_broker.core.queue_options import RuleBook
from towline_broker.core.statistics import Timings
from towline_broker.core.stores import Store, Stores
from towline_broker.core.waiting import WaitLimit
from towline_broker.domain.errors import StoreFailed, TowlineError
from towline_broker.domain.jobs import Counts
from towline_broker.domain.outage import Outage
from towline_broker.domain.pieces import pieces
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Capabilities, QueueState

log = logging.getLogger("towline.broker")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one store told of its queues."""

    states: Sequence[QueueState]
    counts: Sequence[Counts]
    #: Queue to the age of the job that has been READY for longest.
    ages: dict[str, Micros]
    #: When it was told, by the clock of the event loop, in seconds ...
    at: float
    #: ... and by that of the store.
    taken: Micros


@dataclass(frozen=True, slots=True)
class StoreLoad:
    """What this process has to do with one store."""

    name: str
    capabilities: Capabilities
    now: Micros
    #: Calls of Push that wait until the store is given their jobs.
    pushes_waiting: int
    #: How many jobs it is given at the same time.
    push_window: int
    #: How late the last round of upkeep found what had fallen due.
    upkeep_lag: Micros
    #: Since upkeep has last come through; None: it has not yet.
    upkeep_age: Micros | None


class _Watched:
    """One store, and what it told last."""

    def __init__(self, store: Store, rules: RuleBook, owned: OwnedTasks) -> None:
        self.store = store
        self._rules = rules
        self._owned = owned
        self._reading: Reading | None = None
        self._asking: asyncio.Task[None] | None = None
        self._answered: float | None = None
        self._probing: asyncio.Task[None] | None = None
        self._outage = Outage(
            "figures", "its figures cannot be read", "its figures are read again", store.name
        )

    async def reading(self, max_age: float, patience: float) -> Reading | None:
        known = self._reading
        if known is not None and asyncio.get_running_loop().time() - known.at < max_age:
            return known
        if self._asking is None or self._asking.done():
            self._asking = self._owned.start(self._ask())
        done, _ = await asyncio.wait([self._asking], timeout=patience)
        return self._reading if done else None

    async def answers(self, max_age: float, patience: float) -> bool:
        heard = self._answered
        if heard is not None and asyncio.get_running_loop().time() - heard < max_age:
            return True
        if self._probing is None or self._probing.done():
            self._answered, self._probing = None, self._owned.start(self._probe())
        done, _ = await asyncio.wait([self._probing], timeout=patience)
        return bool(done) and self._answered is not None

    async def _probe(self) -> None:
        """By the question that upkeep asks all the time, which costs little in every store."""
        try:
            await self.store.driver.next_due()
        except StoreFailed:
            raise
        except Exception as error:  # no answer, of whatever kind: upkeep tells of it in the log
            log.debug("store %s gives no answer: %s", self.store.name, error)
        else:
            self._answered = asyncio.get_running_loop().time()

    async def _ask(self) -> None:
        self._reading, driver = None, self.store.driver
        try:
            states: list[QueueState] = []
            async for piece in pieces(await driver.queues()):
                states += self._rules.with_pauses(piece)
            counts = await driver.counts()
            oldest = await driver.oldest_ready()
        except StoreFailed:
            raise
        except TowlineError as error:
            self._outage.failed(error)
        except Exception as error:  # whoever looks is told that there was no answer
            self._outage.failed(error, defect=error)
        else:
            now = self.store.clock.now()
            ages = {queue: max(0, now - since) for queue, since in oldest.items()}
            at = asyncio.get_running_loop().time()
            self._reading = Reading(states, counts, ages, at, now)
            self._outage.works()


class Observing:
    def __init__(
        self,
        stores: Stores,
        rules: RuleBook,
        owned: OwnedTasks,
        peers: Peers,
        timings: Timings,
        limit: WaitLimit,
    ) -> None:
        self._watched = [_Watched(store, rules, owned) for store in stores.all]
        self._closed = False
        self._peers = peers
        self.timings = timings
        self._limit = limit

    def close(self) -> None:
        """From here on no store is asked, and none answers."""
        self._closed = True

    async def readings(self, max_age: float, patience: float) -> dict[str, Reading | None]:
        """By the name of the store; None: it gave no answer within ``patience`` seconds.

        A store is asked by one caller at a time, the others wait for the same answer; and only if
        its last answer is ``max_age`` seconds old.
        """
        if self._closed:
            return dict.fromkeys(one.store.name for one in self._watched)
        found = await asyncio.gather(*(one.reading(max_age, patience) for one in self._watched))
        return {one.store.name: reading for one, reading in zip(self._watched, found, strict=True)}

    async def answering(self, max_age: float, patience: float) -> dict[str, bool]:
        """By the name of the store: whether it has given an answer of late, or does so within
        ``patience`` seconds."""
        if self._closed:
            return dict.fromkeys((one.store.name for one in self._watched), False)
        found = await asyncio.gather(*(one.answers(max_age, patience) for one in self._watched))
        return {one.store.name: answers for one, answers in zip(self._watched, found, strict=True)}

    def loads(self) -> list[StoreLoad]:
        return [_load(one.store) for one in self._watched]

    @property
    def workers(self) -> int:
        """As many as this broker, and those that share its default store, have heard of."""
        return self._peers.count()

    @property
    def parked(self) -> int:
        """Calls that wait for jobs, or for the end of one."""
        return self._limit.parked

    @property
    def most_parked(self) -> int:
        return self._limit.limit


def _load(store: Store) -> StoreLoad:
    done, now = store.upkeep.came_through, store.clock.now()
    return StoreLoad(
        store.name,
        store.capabilities,
        now,
        store.admission.waiting,
        store.admission.window,
        store.upkeep.lag,
        None if done is None else max(0, now - done),
    )
