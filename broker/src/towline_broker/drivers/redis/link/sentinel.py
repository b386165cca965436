"""Servers behind Sentinel: one master, and who it is the Sentinels know."""

import asyncio
from collections.abc import Sequence

from towline_broker.drivers.redis.link.endpoint import (
    Endpoint,
    Unfit,
    Unreachable,
    ask_once,
    hopeful,
    pairs,
)
from towline_broker.drivers.redis.link.server import Server
from towline_broker.drivers.redis.link.subscription import Channel, Subscription
from towline_broker.drivers.redis.link.topology import OnChange, Search, endpoint
from towline_broker.drivers.redis.link.url import Address, Settings

#: Seconds a Sentinel may take to answer: they are asked all at once.
_PATIENCE = 1.0


class BehindSentinel:
    def __init__(self, settings: Settings, on_change: OnChange) -> None:
        self._settings = settings
        self._on_change = on_change
        self._sentinels = [
            Endpoint(
                address=address,
                timeout=min(_PATIENCE, settings.timeout),
                user=settings.sentinel_user,
                password=settings.sentinel_password,
                tls=settings.tls,
            )
            for address in settings.addresses
        ]
        self._endpoint: Endpoint | None = None
        self._server: Server | None = None
        self._former: set[asyncio.Task[None]] = set()
        self.refresh = Search(self._search)
        #: After a failover in good order the former master stays in office for some seconds, and
        #: whoever goes on using it loses what it writes.
        self._news = Subscription(
            Channel(
                name=b"+switch-master",
                posts=lambda: self._sentinels,
                refresh=_no_search,
                on_message=lambda _: self.refresh.start(),
                on_gap=self.refresh.start,
            ),
            settings.timeout,
        )

    def suspect(self) -> None:
        self.refresh.start()

    def locate(self, partition: int) -> Server:
        if self._server is None:
            raise Unreachable(f"{self._settings}: no Sentinel has named a master yet")
        return self._server

    def moved(self, partition: int, address: Address) -> None:
        """Only in a Cluster."""

    def at(self, address: Address) -> Server:
        return self.locate(0)

    def masters(self) -> Sequence[Server]:
        return [] if self._server is None else [self._server]

    def posts(self) -> Sequence[Endpoint]:
        return [] if self._endpoint is None else [self._endpoint]

    async def close(self) -> None:
        await self._news.close()
        await self.refresh.close()
        if self._server is not None:
            await self._server.close()
        await asyncio.gather(*self._former)

    async def _search(self) -> None:
        """Goes by the Sentinel that knows of the latest failover."""
        found = await asyncio.gather(
            *(self._named_by(sentinel) for sentinel in self._sentinels), return_exceptions=True
        )
        named = [answer for answer in found if not isinstance(answer, BaseException)]
        if not named:
            errors = [error for error in found if isinstance(error, BaseException)]
            raise hopeful(errors, f"{self._settings}: no Sentinel answers")
        _, address = max(named)
        if self._endpoint is None or address != self._endpoint.address:
            self._use(address)

    async def _named_by(self, sentinel: Endpoint) -> tuple[int, Address]:
        """The master that it names, after the number of the failover that made it one."""
        reply = await ask_once(sentinel, ["SENTINEL", "MASTER", self._settings.service])
        if isinstance(reply, Exception):
            raise Unfit(f"{sentinel.address}: {reply}")
        said = pairs(reply)
        return int(said["config-epoch"]), Address(said["ip"], int(said["port"]))

    def _use(self, address: Address) -> None:
        former, self._endpoint = self._server, endpoint(self._settings, address)
        self._server = Server(self._endpoint, must_be_master=True)
        if former is None:
            self._news.start_soon()
            return
        task = asyncio.get_running_loop().create_task(former.close())
        self._former.add(task)
        task.add_done_callback(self._former.discard)
        self._on_change()


async def _no_search() -> None:
    """The Sentinels are those that the url names."""
