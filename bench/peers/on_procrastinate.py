import asyncio
import os
import sys

from procrastinate import App, PsycopgConnector

from bench.peers.counting import hit

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_POSTGRESQL"]))


@app.task(name="nothing")
def nothing() -> None:
    hit()


@app.task(name="nothing_async")
async def nothing_async() -> None:
    hit()


async def enqueue(jobs: int) -> None:
    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        for _ in range(jobs // 50):
            await nothing_async.batch_defer_async(*({} for _ in range(50)))


async def work(slots: int) -> None:
    async with app.open_async():
        await app.run_worker_async(concurrency=slots)


if __name__ == "__main__":
    way = enqueue if sys.argv[1] == "enqueue" else work
    asyncio.run(way(int(sys.argv[2])))
