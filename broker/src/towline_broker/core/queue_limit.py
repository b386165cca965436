"""How many queues a store may have (P11): they come into being with their first job, so whoever may
push to a pattern could make them without end.

Which queues there are is known here, by what the store told and by what was pushed since: for a
Push to queues that exist that is a look into a set. One that would make a queue has the store
asked first, if other brokers use it too or the limit is near: not more often than every few
seconds, so that brokers on one store can go beyond the limit by what they make within that time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from msgspec.structs import replace

from towline_broker.domain.errors import TooManyQueues
from towline_broker.drivers.interface import Driver, PushBatch, PushOutcome, PushResult

#: Seconds for which what the store told counts.
RECENT = 5.0
#: Of the time, no more than one part in so many goes into asking it.
SELDOM = 20

Give = Callable[[PushBatch], Awaitable[Sequence[PushResult]]]


class QueueLimit:
    """Of one store. What exists goes on, however many there are."""

    def __init__(self, driver: Driver, most: int) -> None:
        self._driver = driver
        self._most = most
        self._known: set[str] = set()
        #: Made since the store was asked last.
        self._made: set[str] = set()
        #: That Pushes under way would make, and by how many of them each.
        self._claims: dict[str, int] = {}
        self._asking = asyncio.Lock()
        #: When it may be asked again, by the clock of the event loop; None: it never was.
        self._ask_at: float | None = None

    def covers(self, queues: Collection[str]) -> bool:
        """Whether all of them exist. Each Push asks."""
        return self._known.issuperset(queues)

    async def push(self, batch: PushBatch, give: Give) -> Sequence[PushResult]:
        """A Push that may make queues; ``give`` has the store do it. Jobs of queues for which there
        is no room are answered with NO_NEW_QUEUE.

        Raises what ``give`` raises, StoreError, and TooManyQueues, in which case nothing is stored,
        if all is to be or nothing.
        """
        queues = dict.fromkeys(job.queue for job in batch.jobs)  # in their order
        await self._hear_of_others(queues)
        with self._claimed(queues) as refused:
            if refused and batch.all_or_nothing:
                raise TooManyQueues(next(iter(refused)), self._most)
            within = [job for job in batch.jobs if job.queue not in refused]
            stored = iter(await give(replace(batch, jobs=within)) if within else ())
            results = [
                PushResult(job.id, PushOutcome.NO_NEW_QUEUE)
                if job.queue in refused
                else next(stored)
                for job in batch.jobs
            ]
            made = {
                job.queue
                for job, result in zip(batch.jobs, results, strict=True)
                if result.outcome is PushOutcome.CREATED
            }
            self._known |= made
            self._made |= made
        return results

    async def _hear_of_others(self, queues: Collection[str]) -> None:
        async with self._asking:
            if self._ask_at is None or (self._may_be_others(queues) and _now() >= self._ask_at):
                began = _now()
                self._made = set()
                told = await self._driver.queues()
                self._known = self._made.union(state.name for state in told)
                self._ask_at = _now() + max(RECENT, SELDOM * (_now() - began))

    def _may_be_others(self, queues: Collection[str]) -> bool:
        if self._driver.capabilities.shared:
            return True
        # One that has moved here, say.
        return len(self._known) + len(self._claims) + len(queues) > self._most

    @contextmanager
    def _claimed(self, queues: Collection[str]) -> Iterator[Collection[str]]:
        """Yields those for which there is no room; the others that are new have theirs while the
        context lasts."""
        claims = self._claims
        mine: list[str] = []
        refused: dict[str, None] = {}
        for queue in queues:
            if queue in self._known:
                continue
            if queue not in claims and len(self._known) + len(claims) >= self._most:
                refused[queue] = None
            else:
                claims[queue] = claims.get(queue, 0) + 1
                mine.append(queue)
        try:
            yield refused
        finally:
            for queue in mine:
                claims[queue] -= 1
                if not claims[queue]:
                    del claims[queue]


def _now() -> float:
    return asyncio.get_running_loop().time()
