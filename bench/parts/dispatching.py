"""Jobs dispatched through the SDK: one at a time from one thread and from 32, each waiting for its
answer, and many in a batch. The threads share a client, and so a connection. Each round has a
client of its own, which dispatches for a moment before it counts. The processor's time is that of
the dispatching process."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from bench import messages, processes
from bench.attempts import each_store
from bench.options import Options
from bench.raw.on_sdk import dispatch
from bench.raw.threads import WARM
from bench.results import Figure, Part
from bench.stores import STORES
from bench.turns import by_turns
from towline import Client, JobRequest

BATCH = 1_000
DATA = {"text": "x" * 250}


class Round(NamedTuple):
    rate: float
    cost: float
    """Microseconds of the processor for each job."""


def one_by_one(address: str, callers: int, seconds: float) -> Round:
    done = dispatch(address, "", callers, seconds)
    return Round(done.jobs / done.seconds, done.cpu / done.jobs * 1e6)


def in_batches(address: str, seconds: float) -> Round:
    with Client(address) as client:

        def batches(seconds: float) -> int:
            jobs, began = 0, time.perf_counter()
            while time.perf_counter() - began < seconds:
                client.dispatch_batch(
                    JobRequest("Bench", DATA, queue=messages.QUEUE) for _ in range(BATCH)
                )
                jobs += BATCH
            return jobs

        batches(WARM)
        used, began = time.process_time(), time.perf_counter()
        jobs = batches(seconds)
        took = time.perf_counter() - began
        return Round(jobs / took, (time.process_time() - used) / jobs * 1e6)


def run(part: Part, options: Options) -> None:
    each_store(part, options, of_store, options.pick(tuple(STORES), quick=("file", "sqlite")))


def of_store(store: str, part: Part, options: Options) -> None:
    seconds = options.pick(1.0, quick=0.2)
    ways: dict[str, Callable[[str], Round]] = {
        "1 thread": lambda address: one_by_one(address, 1, seconds),
        "32 threads": lambda address: one_by_one(address, 32, seconds),
        "dispatch_batch": lambda address: in_batches(address, seconds),
    }
    with (
        processes.fresh_folder() as folder,
        STORES[store](folder) as measured,
        processes.broker(measured.new_url()) as address,
    ):

        def turn(way: str) -> Callable[[], Awaitable[Round]]:
            return lambda: asyncio.to_thread(ways[way], address)

        found = asyncio.run(by_turns(options.rounds, {way: turn(way) for way in ways}))
    for way, rounds in found.items():
        rates, costs = zip(*rounds, strict=True)
        part.figures.append(Figure(store, "SDK", "Dispatch", way, "jobs/s", rates))
        part.figures.append(Figure(store, "SDK", "Dispatch, CPU", way, "µs", costs))
    options.tell(part.figures[-2 * len(ways) :])
