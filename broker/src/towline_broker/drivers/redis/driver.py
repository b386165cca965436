"""The Redis driver: all verbs over one store, opened and closed."""

import asyncio

from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.outage import Outage
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Capabilities, Listener
from towline_broker.drivers.redis.dead_letters import DeadLetters
from towline_broker.drivers.redis.leasing import Leasing
from towline_broker.drivers.redis.link.interface import Link
from towline_broker.drivers.redis.looking import Looking
from towline_broker.drivers.redis.partitions import together
from towline_broker.drivers.redis.pushing import Pushing
from towline_broker.drivers.redis.queues import Peers, Queues
from towline_broker.drivers.redis.transferring import Transferring
from towline_broker.drivers.redis.upkeep import Upkeep

#: The version of what is kept.
SCHEMA = 1
#: Seconds between two attempts to find what was missed in a partition.
_AGAIN = 0.5


class RedisDriver(Pushing, Looking, Leasing, Upkeep, DeadLetters, Queues, Transferring, Peers):
    """Keeps jobs in Redis or Valkey. Implements the Driver and TransferStore interfaces."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        #: Partitions in which jobs may have become READY without a word.
        self._missed: set[int] = set()
        #: By partition: one that cannot be reached must not keep the others waiting.
        self._catching_up: dict[int, asyncio.Task[None]] = {}
        self._outage = Outage(
            "catching_up",
            "jobs that became ready meanwhile are not told of yet",
            "jobs that became ready meanwhile have been told of",
        )

    @property
    def link(self) -> Link:
        return self._link

    @property
    def capabilities(self) -> Capabilities:
        facts = self._link.facts
        return Capabilities(
            name="redis",
            durability=facts.durability,
            durability_note=facts.note,
            shared=True,
        )

    async def open(self, now: Micros, listener: Listener) -> Micros:
        await self._link.open(self._news.heard, self._on_gap)
        # What was told until now is in the counts.
        self._news.listener = listener
        try:
            await together(self._tell_ready(each) for each in self._partitions)
            return await self._link.time()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        self._news.listener = None
        tasks = list(self._catching_up.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._link.close()

    async def _tell_ready(self, partition: int) -> None:
        for counts in await self._counts_in(partition):
            if counts.depth.ready and self._news.listener is not None:
                self._news.listener.jobs_ready(counts.queue, counts.depth.ready)

    def _on_gap(self) -> None:
        """Somebody may have been told of jobs while this broker heard nothing."""
        self._missed.update(self._partitions)
        loop = asyncio.get_running_loop()
        for partition in self._missed - self._catching_up.keys():
            self._catching_up[partition] = loop.create_task(self._catch_up(partition))

    async def _catch_up(self, partition: int) -> None:
        while partition in self._missed:
            # Whatever is missed from here on is not in what is about to be read.
            self._missed.discard(partition)
            try:
                await self._tell_ready(partition)
            except Exception as error:  # whatever it was, somebody may wait for those jobs
                defect = None if isinstance(error, StoreUnavailable) else error
                self._outage.failed(error, defect)
                self._missed.add(partition)
                await asyncio.sleep(_AGAIN)
        del self._catching_up[partition]
        if not self._catching_up:
            self._outage.works()
