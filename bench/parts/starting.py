"""From the push of a job to its start, with a worker that has nothing else to do: by a raw client
that waits on a Work stream, and by the SDK's worker with its handler in a thread; alone, and with a
thousand workers more that wait on another queue. The raw client also from an empty server, which
hands on what it is given: the limit. Some jobs go each way before those that count.

A percentile with fewer than ten samples of a round beyond it, as p99.9, is one of the samples of
all rounds together.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench import processes
from bench.attempts import each_store
from bench.connected import workers
from bench.options import Options
from bench.percentiles import percentiles
from bench.raw.client import PAUSE
from bench.raw.process import raw_client
from bench.results import Part
from bench.stores import STORES
from towline import Client

CUTS = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
OTHERS = 1_000
LIMIT = "raw client, empty server"
STORES_HERE = ("memory", "file", "sqlite", "postgresql", "redis")


@contextmanager
def sdk_worker(address: str) -> Iterator["subprocess.Popen[str]"]:
    options = {"pool": "thread", "concurrency": 8}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.working", address, json.dumps(options)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def by_worker(client: Client, worker: "subprocess.Popen[str]", times: int) -> list[float]:
    """Milliseconds from before the dispatch to the first line of the handler."""
    assert worker.stdout is not None
    took = []
    for _ in range(times):
        time.sleep(PAUSE)
        client.dispatch("tell_when", {"pushed": time.monotonic()})
        took.append(float(worker.stdout.readline()) * 1e3)
    return took


def run(part: Part, options: Options) -> None:
    each_store(part, options, of_store, options.pick(STORES_HERE, quick=("sqlite",)))


def of_store(store: str, part: Part, options: Options) -> None:
    times, warm = options.pick(1_000, quick=100), options.pick(100, quick=20)
    with (
        processes.fresh_folder() as folder,
        STORES[store](folder) as measured,
        processes.broker(measured.new_url()) as address,
        raw_client("towline", address, "") as raw,
        processes.server_process([sys.executable, "-m", "bench.handing"]) as (empty, _),
        raw_client("towline", empty, "") as limit,
        Client(address) as client,
        sdk_worker(address) as worker,
        ExitStack() as stack,
    ):
        for beside in ("alone", f"{OTHERS:,} waiting"):
            if beside != "alone":
                stack.enter_context(workers(address, OTHERS))
            found: dict[str, list[list[float]]] = {"raw client": [], "SDK worker": [], LIMIT: []}
            for one in (limit, raw):
                one.ask(do="start", times=warm)
            by_worker(client, worker, warm)
            for _ in range(options.rounds):
                found[LIMIT].append(limit.ask(do="start", times=times)["milliseconds"])
                found["raw client"].append(raw.ask(do="start", times=times)["milliseconds"])
                found["SDK worker"].append(by_worker(client, worker, times))
            for who, rounds in found.items():
                part.figures.extend(percentiles(store, who, beside, rounds, CUTS))
    options.tell(part.figures[-6 * len(CUTS) :])
