"""The :class:`~.interface.Link`, put together."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from towline_broker.domain.errors import StoreFull, StoreRefused, StoreUnavailable
from towline_broker.domain.events import event
from towline_broker.domain.time import SECOND, Micros
from towline_broker.drivers.interface import Durability
from towline_broker.drivers.redis.link.cluster import InCluster
from towline_broker.drivers.redis.link.delivery import Delivery, Forbidden, Request
from towline_broker.drivers.redis.link.endpoint import Unfit, Unreachable, encode
from towline_broker.drivers.redis.link.inspection import Inspection, facts, inspect, refuse_unfit
from towline_broker.drivers.redis.link.interface import (
    Argument,
    Call,
    Facts,
    OnGap,
    OnMessage,
    Script,
    ScriptDefect,
)
from towline_broker.drivers.redis.link.origin import FOUND, TRY_OUT, partitions, proposal
from towline_broker.drivers.redis.link.sentinel import BehindSentinel
from towline_broker.drivers.redis.link.subscription import Channel, Subscription
from towline_broker.drivers.redis.link.topology import OnChange, Standalone, Topology
from towline_broker.drivers.redis.link.url import CLUSTER, SENTINEL, Settings
from towline_broker.drivers.redis.link.wire import Lost

log = logging.getLogger("towline.broker")

_NOTHING_KNOWN = Facts("", (0, 0, 0), "", Durability.NONE, "")
_TIME = encode(["TIME"])


class RedisLink:
    def __init__(self, settings: Settings, schema: int) -> None:
        self.partitions = 1
        self.channel = f"{settings.prefix}:events:{settings.db}".encode()
        self.facts = _NOTHING_KNOWN
        self._settings = settings
        self._schema = schema
        self._topology = _topology(settings, self._changed)
        self._delivery = Delivery(self._topology, settings.timeout)
        self._subscription: Subscription | None = None
        self._on_gap: OnGap | None = None
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self, on_message: OnMessage, on_gap: OnGap) -> None:
        self._on_gap = on_gap
        channel = Channel(
            name=self.channel,
            posts=self._topology.posts,
            refresh=self._topology.refresh,
            on_message=on_message,
            on_gap=self._changed,
        )
        self._subscription = Subscription(channel, self._settings.timeout)
        try:
            await self._open()
            await self._subscription.start()
        except BaseException as error:
            await self.close()
            if isinstance(error, Unfit):
                raise StoreRefused(f"{self._settings}: {error}") from None
            if isinstance(error, Unreachable | Lost):
                raise StoreUnavailable(f"{self._settings}: {error}") from None
            raise

    async def close(self) -> None:
        self._closed = True
        self._on_gap = None
        if self._subscription is not None:
            await self._subscription.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await self._topology.close()

    async def run(self, script: Script, partition: int, args: Sequence[Argument] = ()) -> Any:
        if self._closed:
            raise StoreUnavailable(f"{self._settings} is closed")
        keys = self._keys(partition)
        payload = encode(["EVALSHA", script.sha, len(keys), *keys, *args])
        repeatable = script.repeatable or not script.write
        return await self._delivery.deliver(
            Request(script.name, partition, payload, repeatable, script)
        )

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        replies = await asyncio.gather(
            *(self.run(call.script, call.partition, call.args) for call in calls),
            return_exceptions=True,
        )
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return replies

    async def time(self) -> Micros:
        seconds, micros = await self._delivery.deliver(Request("TIME", 0, _TIME, repeatable=True))
        return int(seconds) * SECOND + int(micros)

    def _keys(self, partition: int) -> list[str]:
        """The prefix; and a key that never exists.

        A Cluster that is moving keys one by one runs a script where its keys are, as far as they
        are declared, and lets it see half of the partition. With two keys that are not there it
        says TRYAGAIN instead until all have moved.
        """
        prefix = f"{self._settings.prefix}:{{{partition}}}:"
        return [prefix, prefix + "none"]

    # --- what the servers are ---

    async def _open(self) -> None:
        await self._topology.refresh()
        found = await self._inspect()
        refuse_unfit(self._settings, found)
        self.facts = facts(self._settings, found)
        await self._try_out()
        new, kept = await self._found()
        self.partitions = partitions(self._settings, self._schema, kept)
        what = "made a store in" if new else "opened the store in"
        server = f"{self.facts.product} {'.'.join(map(str, self.facts.version))}"
        log.info(
            "%s %s: %s",
            *(what, self._settings, server),
            extra=event("store_opened", url=str(self._settings), new=new, server=server),
        )

    async def _inspect(self) -> list[Inspection]:
        return list(await asyncio.gather(*(inspect(at) for at in self._topology.masters())))

    async def _try_out(self) -> None:
        try:
            await self.run(TRY_OUT, 0, [self.channel])
        except StoreFull:
            # There is nothing that the user may not do.
            return
        except (Forbidden, ScriptDefect) as error:
            raise StoreRefused(
                f"{self._settings}: {error}; the rights that the user needs are in docs/redis.md"
            ) from None

    async def _found(self) -> tuple[bool, bytes]:
        """Makes the store unless there is one: whether it did, and what is written there."""
        made, kept = await self.run(FOUND, 0, [proposal(self._settings, self._schema)])
        return bool(made), kept

    def _changed(self) -> None:
        """Something was lost, and something else is there: perhaps of another kind."""
        if self._on_gap is None:
            return
        self._on_gap()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_again())

    async def _look_again(self) -> None:
        try:
            found = await self._inspect()
            refuse_unfit(self._settings, found)
            before, self.facts = self.facts, facts(self._settings, found)
            if self.facts.durability < before.durability:
                log.warning(
                    "%s is less durable now: %s",
                    self._settings,
                    self.facts.note,
                    extra=event(
                        "store_less_durable", url=str(self._settings), reason=self.facts.note
                    ),
                )
            made, _ = await self._found()
            if made:
                log.error(
                    "%s is empty: all jobs are lost; %s",
                    self._settings,
                    self.facts.note,
                    extra=event("store_emptied", url=str(self._settings), reason=self.facts.note),
                )
        except (Unreachable, Lost, StoreUnavailable, StoreFull) as error:
            log.info(
                "%s could not be looked at: %s",
                self._settings,
                error,
                extra=event("store_not_inspected", url=str(self._settings), reason=str(error)),
            )
        except StoreRefused as error:
            log.error(
                "%s", error, extra=event("store_unfit", url=str(self._settings), reason=str(error))
            )


def _topology(settings: Settings, on_change: OnChange) -> Topology:
    if settings.topology == CLUSTER:
        return InCluster(settings, on_change)
    if settings.topology == SENTINEL:
        return BehindSentinel(settings, on_change)
    return Standalone(settings)
