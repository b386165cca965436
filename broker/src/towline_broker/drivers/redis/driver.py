"""The Redis driver: all verbs over one store, opened and closed."""

import asyncio
import logging

from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Capabilities, Listener
from towline_broker.drivers.redis.dead_letters import DeadLetters
from towline_broker.drivers.redis.leasing import Leasing
from towline_broker.drivers.redis.looking import Looking
from towline_broker.drivers.redis.pushing import Pushing
from towline_broker.drivers.redis.queues import Peers, Queues
from towline_broker.drivers.redis.transferring import Transferring
from towline_broker.drivers.redis.upkeep import Upkeep

log = logging.getLogger("towline.broker.redis")

#: The version of what is kept.
SCHEMA = 1
#: Seconds between two attempts to find what was missed.
_AGAIN = 0.5


class RedisDriver(Pushing, Looking, Leasing, Upkeep, DeadLetters, Queues, Transferring, Peers):
    """Keeps jobs in Redis or Valkey. Implements the Driver and TransferStore interfaces."""

    _catching_up: asyncio.Task[None] | None = None
    _missed = False

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
            await self._tell_ready()
            return await self._link.time()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        self._news.listener = None
        if self._catching_up is not None:
            self._catching_up.cancel()
            await asyncio.wait([self._catching_up])
        await self._link.close()

    async def _tell_ready(self) -> None:
        for counts in await self.counts():
            if counts.depth.ready and self._news.listener is not None:
                self._news.listener.jobs_ready(counts.queue, counts.depth.ready)

    def _on_gap(self) -> None:
        """Somebody may have been told of jobs while this broker heard nothing."""
        self._missed = True
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = asyncio.get_running_loop().create_task(self._catch_up())

    async def _catch_up(self) -> None:
        while self._missed:
            # Whatever is missed from here on is not in what is about to be read.
            self._missed = False
            try:
                await self._tell_ready()
            except StoreUnavailable as error:
                log.warning("jobs that became ready meanwhile are not told of yet: %s", error)
                self._missed = True
                await asyncio.sleep(_AGAIN)
