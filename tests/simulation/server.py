"""A broker process: its services over its core over its driver, and how calls come to them."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any, cast

import grpc

from tests.simulation.disk import Disk
from tests.simulation.loop import Loop, Process
from tests.simulation.machine import DiskFaults, Machine
from towline.v1.queue_service_pb2 import ReserveResponse
from towline_broker.core.broker import Broker
from towline_broker.core.clock import SystemClock
from towline_broker.core.settings import CoreSettings
from towline_broker.domain.errors import TowlineError
from towline_broker.drivers.file import FileDriver
from towline_broker.drivers.file.url import FileUrl
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.memory import MemoryDriver
from towline_broker.drivers.memory.engine import Engine
from towline_broker.services.admin_service import AdminService
from towline_broker.services.dead_letter_service import DeadLetterService
from towline_broker.services.limits import Limits
from towline_broker.services.queue_service import QueueService
from towline_broker.services.reserving import Context
from towline_broker.status import wire_error

PLACE = Path("/disk/store")


class CallOver(grpc.aio.BaseError):
    """What gRPC raises to a handler that wants to send an answer when its call has ended."""


class ServerCall:
    """One call as its handler sees it: the part of gRPC's context that the services use."""

    def __init__(self, loop: Loop, jam: float) -> None:
        """``jam``: so long its reply waits for room on the wire, in seconds."""
        self._loop = loop
        self._jam = jam
        self._deadline = 0.0
        self._process: Process | None = None
        self.over = False
        self.task: asyncio.Task[None] | None = None

    def begin(self, timeout: float, process: Process) -> None:
        """It has arrived: its deadline counts from here on."""
        self._deadline = self._loop.time() + timeout
        self._process = process

    def time_remaining(self) -> float:
        return max(0.0, self._deadline - self._loop.time())

    async def write(self, reply: object) -> None:
        await asyncio.sleep(self._jam)
        if self.over:
            raise CallOver

    def cancel(self) -> None:
        """Its client is gone."""
        self.over = True
        if self.task is not None and self._process is not None:
            # What that sets off is the broker's business.
            self._process.context().run(self.task.cancel)


class Server:
    """One life of the broker."""

    def __init__(
        self,
        driver: Driver,
        process: Process,
        clock: SystemClock,
        settings: CoreSettings,
        rng: Random,
        loop: Loop,
    ) -> None:
        self.process = process
        self.driver = driver
        self._loop = loop
        self.broker = Broker(driver, clock=clock, settings=settings, rng=rng)
        limits = Limits()
        self._services = {
            "QueueService": QueueService(self.broker, limits),
            "DeadLetterService": DeadLetterService(self.broker, limits),
            "AdminService": AdminService(self.broker, limits, "simulated"),
        }
        self.serving = False
        #: Tokens of the leases that were sent to somebody.
        self.sent: set[str] = set()

    async def start(self) -> None:
        """Raises StoreRefused, StoreUnavailable."""
        await self.broker.start()
        self.serving = True

    async def answer(self, service: str, method: str, request: object, call: ServerCall) -> Any:
        """The reply. Raises Refused."""
        handler = cast(
            Callable[[Any, Context], Awaitable[Any]],
            getattr(self._services[service], method),
        )
        try:
            reply = await handler(request, cast(Context, call))
        except TowlineError as error:
            raise Refused(wire_error(error).code.name) from error
        except CallOver:
            raise asyncio.CancelledError from None
        if isinstance(reply, ReserveResponse):
            self.sent.update(lease.lease_token for lease in reply.leases)
        return reply

    async def stop(self) -> None:
        """As on SIGTERM."""
        self.serving = False
        await self.broker.stop()


class Refused(Exception):
    """A call that failed, by the name of its status."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def memory_driver() -> MemoryDriver:
    return MemoryDriver(Engine())


def file_driver(
    loop: Loop,
    disk: Disk,
    process: Process,
    faults: DiskFaults,
    *,
    pace: float,
    segment_bytes: int,
    rng: random.Random,
    reached: Callable[[int], None],
) -> FileDriver:
    machine = Machine(loop, disk, process, faults, rng, pace, reached)
    url = FileUrl(PLACE, min_free_bytes=0, segment_bytes=segment_bytes, max_bytes=1 << 30)
    return FileDriver(url, lambda _: disk.free, machine)
