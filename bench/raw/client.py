"""A client in a process of its own: reads what to do from its standard input, a line of JSON each,
and answers with a line of JSON.

    python -m bench.raw.client KIND ADDRESS SETTING

``{"do": "bulk", "seconds": 0.5, "batch": 100, "clients": 8}`` pushes for so long and works off what
it has pushed, and tells what both took of the processor; ``{"do": "dispatch", "seconds": 0.5,
"callers": 32}`` lets so many callers push one job after the other, each waiting for its answer;
``{"do": "start", "times": 500}`` measures from the push of a job to its arrival where it was waited
for.
"""

import asyncio
import functools
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.raw.queue import RawQueue, Tally
from bench.raw.threads import Dispatched
from bench.raw.used import Used

#: Seconds between two jobs whose way is measured: all is quiet by then.
PAUSE = 0.005

#: By so many callers, for so many seconds.
InThreads = Callable[[int, float], Dispatched]


class Client:
    def __init__(self, new: Callable[[], RawQueue], in_threads: InThreads | None = None) -> None:
        self._new = new
        self._in_threads = in_threads
        self._connections: list[RawQueue] = []

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        ways: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "bulk": self._bulk,
            "dispatch": self._dispatch,
            "start": self._start,
        }
        return await ways[request.pop("do")](**request)

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()

    async def _bulk(self, seconds: float, batch: int, clients: int) -> dict[str, Any]:
        connections = await self._some(clients)
        before = Used.now()
        pushed, took = await self._push(connections, batch, seconds)
        between = Used.now()
        worked = await self._work(connections, batch, pushed)
        return {
            "push": pushed / took,
            "push_used": between.since(before, pushed),
            "work": pushed / worked,
            "work_used": Used.now().since(between, pushed),
        }

    async def _dispatch(self, seconds: float, callers: int) -> dict[str, Any]:
        if self._in_threads is not None:
            done = await asyncio.to_thread(self._in_threads, callers, seconds)
            pushed, rate = done.all, done.jobs / done.seconds
        else:
            pushed, took = await self._push(await self._some(callers), 1, seconds)
            rate = pushed / took
        await self._work(await self._some(8), 100, pushed)
        return {"push": rate}

    async def _start(self, times: int) -> dict[str, Any]:
        giving, taking = await self._some(2)
        milliseconds = []
        for _ in range(times):
            waiting = asyncio.ensure_future(taking.take())
            await asyncio.sleep(PAUSE)
            began = time.perf_counter()
            pushed = asyncio.ensure_future(giving.push(1))
            await waiting
            milliseconds.append((time.perf_counter() - began) * 1e3)
            await pushed
            await taking.settle()
        return {"milliseconds": milliseconds}

    async def _push(
        self, connections: list[RawQueue], batch: int, seconds: float
    ) -> tuple[int, float]:
        """How many jobs in how many seconds."""
        jobs, began = 0, time.perf_counter()

        async def one(connection: RawQueue) -> None:
            nonlocal jobs
            while time.perf_counter() - began < seconds:
                await connection.push(batch)
                jobs += batch

        await asyncio.gather(*map(one, connections))
        return jobs, time.perf_counter() - began

    async def _work(self, connections: list[RawQueue], batch: int, jobs: int) -> float:
        """In how many seconds."""
        began = time.perf_counter()
        tally = Tally(jobs)
        await asyncio.gather(*(connection.work(batch, tally) for connection in connections))
        return tally.ended - began

    async def _some(self, number: int) -> list[RawQueue]:
        while len(self._connections) < number:
            connection = self._new()
            await connection.open()
            self._connections.append(connection)
        return self._connections[:number]


async def main(kind: str, address: str, setting: str) -> None:
    module = importlib.import_module(f"bench.raw.on_{kind}")
    dispatch = getattr(module, "dispatch", None)
    client = Client(
        lambda: module.Queue(address, setting),
        functools.partial(dispatch, address, setting) if dispatch else None,
    )
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await client.answer(json.loads(line))), flush=True)
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
