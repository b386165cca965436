"""RabbitMQ, by pika on an event loop.

Settings: ``classic`` and ``quorum``, both durable, with persistent messages and confirms; and
``transient``, as its tutorial begins: a queue in memory, and no confirms.
"""

import asyncio
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection

from bench.raw.queue import PAYLOAD, Tally


def name_of(setting: str) -> str:
    return f"bench-{setting}"


class Queue:
    def __init__(self, address: str, setting: str) -> None:
        host, _, port = address.rpartition(":")
        self._parameters = pika.ConnectionParameters(host, int(port))
        self._setting = setting
        self._confirms = setting != "transient"
        mode = pika.DeliveryMode.Persistent if self._confirms else pika.DeliveryMode.Transient
        self._properties = pika.BasicProperties(delivery_mode=mode)
        self._sent = self._confirmed = 0
        self._changed: asyncio.Future[None] | None = None
        #: Confirmed before others that were sent earlier.
        self._early: set[int] = set()
        self._taken: list[int] = []
        self._consuming = ""

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Any] = loop.create_future()
        self._connection = AsyncioConnection(
            self._parameters,
            on_open_callback=opened.set_result,
            on_open_error_callback=lambda _, error: opened.set_exception(error),
            custom_ioloop=loop,
        )
        await opened
        channel: asyncio.Future[Any] = loop.create_future()
        self._connection.channel(on_open_callback=channel.set_result)
        self._channel = await channel
        declared: asyncio.Future[Any] = loop.create_future()
        kind = "quorum" if self._setting == "quorum" else "classic"
        self._channel.queue_declare(
            name_of(self._setting),
            durable=self._confirms,
            arguments={"x-queue-type": kind},
            callback=declared.set_result,
        )
        await declared
        if self._confirms:
            confirming: asyncio.Future[Any] = loop.create_future()
            self._channel.confirm_delivery(self._heard, confirming.set_result)
            await confirming

    async def push(self, jobs: int) -> None:
        for _ in range(jobs):
            self._channel.basic_publish("", name_of(self._setting), PAYLOAD, self._properties)
        if not self._confirms:
            await self._reached(jobs)
            return
        self._sent += jobs
        until = self._sent
        while self._confirmed < until:
            await self._change()

    async def _reached(self, jobs: int) -> None:
        """Nothing is confirmed; but many have to reach the broker, and not only a buffer here."""
        if jobs == 1:
            await asyncio.sleep(0)
            return
        await self._round_trip()

    async def _round_trip(self) -> None:
        """All that was written before has been read by then."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._channel.queue_declare(
            name_of(self._setting), passive=True, callback=answered.set_result
        )
        await answered

    async def work(self, batch: int, tally: Tally) -> None:
        await self._consume(2 * batch)
        try:
            while not tally.finished.is_set():
                while not self._taken and not tally.finished.is_set():
                    ended = asyncio.ensure_future(tally.finished.wait())
                    await asyncio.wait((self._change(), ended), return_when=asyncio.FIRST_COMPLETED)
                    ended.cancel()
                await self.settle(tally)
        finally:
            await self._stop_consuming()

    async def take(self) -> None:
        if not self._consuming:
            await self._consume(1)
        while not self._taken:
            await self._change()

    async def settle(self, tally: Tally | None = None) -> None:
        if self._taken:
            jobs = len(self._taken)
            self._channel.basic_ack(self._taken[-1], multiple=True)
            self._taken.clear()
            if tally is not None:
                if tally.last(jobs):
                    await self._round_trip()
                tally.done(jobs)

    async def close(self) -> None:
        self._connection.close()

    async def _consume(self, prefetch: int) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[Any] = loop.create_future()
        self._channel.basic_qos(prefetch_count=prefetch, callback=ready.set_result)
        await ready
        started: asyncio.Future[Any] = loop.create_future()
        self._consuming = self._channel.basic_consume(
            name_of(self._setting), self._delivered, callback=started.set_result
        )
        await started

    async def _stop_consuming(self) -> None:
        stopped: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._channel.basic_cancel(self._consuming, callback=stopped.set_result)
        await stopped
        self._consuming = ""

    def _delivered(self, _: Any, method: Any, properties: Any, body: bytes) -> None:
        self._taken.append(method.delivery_tag)
        self._wake()

    def _heard(self, frame: Any) -> None:
        if not isinstance(frame.method, pika.spec.Basic.Ack):
            raise AssertionError(frame)
        tag = frame.method.delivery_tag
        if frame.method.multiple or tag == self._confirmed + 1:
            self._confirmed = max(self._confirmed, tag)
            while self._confirmed + 1 in self._early:
                self._confirmed += 1
                self._early.discard(self._confirmed)
        else:
            self._early.add(tag)
        self._wake()

    def _change(self) -> "asyncio.Future[None]":
        """Done once something came after this was asked for. No coroutine: it would ask later."""
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        return self._changed

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
