"""Jobs dispatched one by one from threads and from tasks, with and without joined pushes.

    python -m bench.dispatch --store sqlite --rounds 5

Every caller dispatches job after job, each waiting for its answer, as the requests of a web server
do. Both clients, joining and not, are measured by turns against one broker in a process of its own,
so that whatever else the machine does falls on all of them.
"""

import argparse
import asyncio
import statistics
import threading
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from bench import processes
from bench.stores import STORES
from towline import AsyncClient, Client

PAYLOAD = {"to": "someone@example.com", "subject": "x" * 200}


class Way(NamedTuple):
    """How jobs are dispatched: from so many threads or tasks, with joined pushes or without."""

    callers: int
    kind: str
    join: bool

    def __str__(self) -> str:
        return f"{self.callers:3} {self.kind:7} {'joined' if self.join else 'apart'}"


WAYS = [
    Way(callers, kind, join)
    for kind, many in (("threads", 32), ("tasks", 64))
    for callers in (1, 2, many)
    for join in (False, True)
]


def with_threads(client: Client, way: Way, jobs: int, took: list[float]) -> None:
    def caller() -> None:
        for _ in range(jobs // way.callers):
            began = time.perf_counter()
            client.dispatch("Bench", PAYLOAD, queue="bench")
            took.append(time.perf_counter() - began)

    threads = [threading.Thread(target=caller) for _ in range(way.callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def with_tasks(client: AsyncClient, way: Way, jobs: int, took: list[float]) -> None:
    async def caller() -> None:
        for _ in range(jobs // way.callers):
            began = time.perf_counter()
            await client.dispatch("Bench", PAYLOAD, queue="bench")
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(way.callers)))


class Figures(NamedTuple):
    rate: float
    p50: float
    p99: float
    cpu: float
    """Seconds of this process's own CPU for each job."""


def figures(took: list[float], wall: float, cpu: float) -> Figures:
    cuts = statistics.quantiles(took, n=100)
    return Figures(len(took) / wall, cuts[49], cuts[98], cpu / len(took))


async def measured(run: Callable[[list[float]], Awaitable[None]]) -> Figures:
    took: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    await run(took)
    return figures(took, time.perf_counter() - wall, time.process_time() - cpu)


async def measure(address: str, jobs: int, rounds: int) -> dict[Way, list[Figures]]:
    found: dict[Way, list[Figures]] = {way: [] for way in WAYS}
    threaded = {join: Client(address, join_pushes=join) for join in (False, True)}
    tasked = {join: AsyncClient(address, join_pushes=join) for join in (False, True)}
    for turn in range(rounds + 1):
        for way in WAYS:
            count = jobs if way.callers > 1 else jobs // 4

            async def run(took: list[float], way: Way = way, count: int = count) -> None:
                if way.kind == "threads":
                    await asyncio.to_thread(with_threads, threaded[way.join], way, count, took)
                else:
                    await with_tasks(tasked[way.join], way, count, took)

            result = await measured(run)
            if turn > 0:  # The first one warms up.
                found[way].append(result)
    for join in (False, True):
        threaded[join].close()
        await tasked[join].close()
    return found


def show(found: dict[Way, list[Figures]]) -> None:
    print(f"{'':18} {'jobs/s':>8} {'spread':>17} {'p50 ms':>8} {'p99 ms':>8} {'CPU us':>8}")
    for way, results in found.items():
        rates = [result.rate for result in results]
        middle = Figures(*(statistics.median(column) for column in zip(*results, strict=True)))
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        print(
            f"{way!s:18} {middle.rate:8,.0f} {spread:>17} {middle.p50 * 1e3:8.2f} "
            f"{middle.p99 * 1e3:8.2f} {middle.cpu * 1e6:8.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", choices=STORES, default="sqlite", help="(default sqlite)")
    parser.add_argument("--jobs", type=int, default=4000, help="jobs a round (default 4000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default 5)")
    options = parser.parse_args()
    with (
        processes.fresh_folder() as folder,
        STORES[options.store](folder) as store,
        processes.broker(store.new_url()) as address,
    ):
        show(asyncio.run(measure(address, options.jobs, options.rounds)))


if __name__ == "__main__":
    main()
