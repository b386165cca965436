import asyncio
import os
import sys

from taskiq_redis import RedisStreamBroker

from bench.peers.counting import hit

broker = RedisStreamBroker(url=os.environ["BENCH_REDIS"])


@broker.task(task_name="nothing")
async def nothing() -> None:
    hit()


async def enqueue(jobs: int) -> None:
    await broker.startup()
    for _ in range(jobs // 50):
        await asyncio.gather(*(nothing.kiq() for _ in range(50)))
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(enqueue(int(sys.argv[2])))
