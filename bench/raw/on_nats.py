"""NATS JetStream, by nats-py: a stream in a file, of which what was acknowledged is deleted."""

import asyncio

import nats
from nats.js.api import RetentionPolicy, StorageType

from bench.raw.queue import PAYLOAD, Tally

SUBJECT = "bench"


class Queue:
    def __init__(self, address: str, setting: str) -> None:
        self._address = address

    async def open(self) -> None:
        self._connection = await nats.connect(f"nats://{self._address}")
        self._stream = self._connection.jetstream(publish_async_max_pending=100_000)
        await self._stream.add_stream(
            name="BENCH",
            subjects=[SUBJECT],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
        )
        self._consumer = await self._stream.pull_subscribe(SUBJECT, durable="bench")

    async def push(self, jobs: int) -> None:
        if jobs == 1:
            await self._stream.publish(SUBJECT, PAYLOAD)
            return
        accepted = [await self._stream.publish_async(SUBJECT, PAYLOAD) for _ in range(jobs)]
        await asyncio.gather(*accepted)

    async def work(self, batch: int, tally: Tally) -> None:
        while not tally.finished.is_set():
            try:
                messages = await self._consumer.fetch(batch, timeout=0.2)
            except TimeoutError:  # there was none
                continue
            for message in messages:
                await message.ack()
            if tally.last(len(messages)):
                await self._connection.flush()
            tally.done(len(messages))

    async def take(self) -> None:
        (self._taken,) = await self._consumer.fetch(1, timeout=20)

    async def settle(self) -> None:
        await self._taken.ack()

    async def close(self) -> None:
        await self._connection.close()
