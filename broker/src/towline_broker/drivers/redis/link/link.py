"""The :class:`~.interface.Link`, put together."""

import asyncio
from collections.abc import Sequence
from typing import Any

from towline_broker.domain.time import SECOND, Micros
from towline_broker.drivers.interface import Durability
from towline_broker.drivers.redis.link.delivery import Delivery, Request
from towline_broker.drivers.redis.link.interface import (
    Argument,
    Call,
    Facts,
    OnGap,
    OnMessage,
    Script,
)
from towline_broker.drivers.redis.link.topology import Standalone
from towline_broker.drivers.redis.link.url import Settings
from towline_broker.drivers.redis.link.wire import encode

_UNKNOWN = Facts("", (0, 0, 0), "", Durability.NONE, "")
_TIME = encode(["TIME"])


class RedisLink:
    def __init__(self, settings: Settings, schema: int) -> None:
        self._schema = schema
        self.partitions = 1
        self.facts = _UNKNOWN
        self.channel = f"{settings.prefix}:events:{settings.db}".encode()
        self._settings = settings
        self._topology = Standalone(settings)
        self._delivery = Delivery(self._topology, settings.timeout)

    async def open(self, on_message: OnMessage, on_gap: OnGap) -> None:
        pass

    async def close(self) -> None:
        await self._topology.close()

    async def run(self, script: Script, partition: int, args: Sequence[Argument] = ()) -> Any:
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
