"""A memory store that several drivers share, as if it were a server.

It shows that the part of the contract about brokers on one store can be kept, and (with
``planted_bugs/in_sharing.py``) that breaking it is noticed, apart from any real server.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Capabilities, Driver, Durability, Listener, tell
from towline_broker.drivers.memory import Engine, MemoryDriver
from towline_broker.drivers.memory.events import Events
from towline_broker.testing import Harness


class Server:
    """What is there once, whoever uses it."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.drivers: list[SharedDriver] = []
        self.notices: dict[str, tuple[bytes, Micros]] = {}
        # What planted bugs count.
        self.made = 0
        self.at_work = 0
        self.made_once: set[str] = set()
        self.made_twice: list[str] = []

    def time(self) -> Micros:
        return time.time_ns() // 1000


class SharedDriver(MemoryDriver):
    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self.server = server

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("shared", Durability.DURABLE, "Kept as long as the test.", shared=True)

    async def open(self, now: Micros, listener: Listener) -> Micros:
        await super().open(now, listener)
        self.server.drivers.append(self)
        queues = self.server.engine._state.queues.values()
        self.hear(Events(ready=Counter({queue.name: len(queue.ready) for queue in queues})))
        return self.server.time()

    async def close(self) -> None:
        if self in self.server.drivers:
            self.server.drivers.remove(self)
        await super().close()

    def hear(self, events: Events) -> None:
        if self._listener is not None:
            tell(self._listener, events.ready, events.ended)

    def _tell(self) -> None:
        events = self.server.engine.take_events()
        self.hear(events)
        for peer in self.server.drivers:
            if peer is not self:
                asyncio.get_running_loop().call_soon(peer.hear, events)

    async def time(self, now: Micros) -> Micros:
        return self.server.time()

    async def post(self, broker_id: str, notice: bytes, until: Micros) -> None:
        if notice:
            self.server.notices[broker_id] = (notice, until)
        else:
            self.server.notices.pop(broker_id, None)

    async def notices(self, now: Micros) -> dict[str, bytes]:
        return {
            broker_id: notice
            for broker_id, (notice, until) in self.server.notices.items()
            if until > now
        }


class SharedHarness(Harness):
    persists = True

    def __init__(self, driver: Callable[[Server], Driver] = SharedDriver) -> None:
        self._server = Server()
        self._driver = driver

    def driver(self) -> Driver:
        return self._driver(self._server)
