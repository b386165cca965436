import asyncio
import os
import sys
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings

from bench.peers.counting import hit

SETTINGS = RedisSettings.from_dsn(os.environ["BENCH_REDIS"])


async def nothing(context: dict[str, Any]) -> None:
    hit()


class WorkerSettings:
    functions = [nothing]  # noqa: RUF012  # as arq wants it
    redis_settings = SETTINGS
    max_jobs = 8
    keep_result = 0
    # At its default of half a second it would mostly wait.
    poll_delay = 0.01


async def enqueue(jobs: int) -> None:
    pool = await create_pool(SETTINGS)
    for _ in range(jobs // 50):
        await asyncio.gather(*(pool.enqueue_job("nothing") for _ in range(50)))
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(enqueue(int(sys.argv[2])))
