"""Redis streams, by redis-py with pipelines: what was acknowledged is deleted, as a queue does."""

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from bench.raw.queue import PAYLOAD, Tally

STREAM, GROUP = "bench", "workers"


class Queue:
    def __init__(self, address: str, setting: str) -> None:
        self._redis = Redis.from_url(f"redis://{address}/0")
        self._name = f"worker-{id(self)}"

    async def open(self) -> None:
        try:
            await self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def push(self, jobs: int) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for _ in range(jobs):
            pipeline.xadd(STREAM, {"job": PAYLOAD})
        await pipeline.execute()

    async def work(self, batch: int, tally: Tally) -> None:
        while not tally.finished.is_set():
            found: Any = await self._redis.xreadgroup(GROUP, self._name, {STREAM: ">"}, count=batch)
            jobs = [job for job, _ in found[0][1]] if found else []
            if jobs:
                await self._delete(jobs)
                tally.done(len(jobs))

    async def take(self) -> None:
        found: Any = await self._redis.xreadgroup(
            GROUP, self._name, {STREAM: ">"}, count=1, block=20_000
        )
        self._taken = [job for job, _ in found[0][1]]

    async def settle(self) -> None:
        await self._delete(self._taken)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _delete(self, jobs: list[bytes]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.xack(STREAM, GROUP, *jobs)
        pipeline.xdel(STREAM, *jobs)
        await pipeline.execute()
