"""Jobs that do nothing, drained by one worker: Towline beside other libraries, in one run.

    python -m bench.against --jobs 10000 --rounds 5

Queues are filled first; then the worker starts, and counted is from the first tenth of the jobs to
the last, so without its start. By turns, medians. CPU is that of the worker with its children, not
of its broker, for each job. Towline: a broker over the file store, every step synced to the disk.
The others: a Redis server of their own with an append-only file that is synced each second, and
each library as it comes, but that no results are kept. Which of them acknowledges a job before it
has run, so that a killed worker loses it, is told beside.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from bench import processes
from bench.peers import counting
from tests.support.servers.redis import RedisServer

PEERS = Path(".venv-peers") / "bin"
SLOTS = 8
#: Seconds after which a worker that does not get on is given up.
PATIENCE = 120.0


@dataclass(frozen=True)
class Contestant:
    library: str
    worker: Sequence[str]
    #: Of the jobs to be dispatched; Towline only.
    type: str = "nothing"
    loses: bool = False

    def enqueue(self, jobs: int) -> list[str]:
        python = sys.executable if self.library == "towline" else str(PEERS / "python")
        module = f"bench.peers.on_{self.library}"
        return [python, "-m", module, "enqueue", str(jobs), self.type]


def _towline(type: str = "nothing", **options: object) -> Contestant:
    options.setdefault("concurrency", SLOTS)
    command = [sys.executable, "-m", "bench.peers.on_towline", "worker", json.dumps(options)]
    return Contestant("towline", command, type)


def _celery(*pool: str) -> Contestant:
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "error")
    app = ("-A", "bench.peers.on_celery", "worker", "--pool", *pool)
    return Contestant("celery", [str(PEERS / "celery"), *app, *quiet], loses=True)


def _dramatiq() -> Contestant:
    options = ("--processes", "1", "--threads", str(SLOTS))
    return Contestant("dramatiq", [str(PEERS / "dramatiq"), "bench.peers.on_dramatiq", *options])


def _rq(worker: str) -> Contestant:
    options = ("-w", worker, "-q", "--url", "{redis}", "--path", ".")
    return Contestant("rq", [str(PEERS / "rq"), "worker", *options])


CONTESTANTS: Mapping[str, Contestant] = {
    "Towline, threads": _towline(),
    "Towline, async": _towline("nothing_async", pool="async"),
    "Towline, process pool of 2": _towline(pool="process", concurrency=2),
    "Towline, 2 processes": _towline(processes=2),
    "Celery, threads": _celery("threads", "-c", str(SLOTS)),
    "Celery, prefork of 2": _celery("prefork", "-c", "2"),
    "Dramatiq, threads": _dramatiq(),
    "RQ": _rq("rq.Worker"),
    "RQ, SimpleWorker": _rq("rq.SimpleWorker"),
    "arq": Contestant("arq", [str(PEERS / "arq"), "bench.peers.on_arq.WorkerSettings"]),
    "taskiq": Contestant(
        "taskiq",
        [
            *(str(PEERS / "taskiq"), "worker", "bench.peers.on_taskiq:broker"),
            *("--workers", "1", "--max-async-tasks", str(SLOTS), "--log-level", "ERROR"),
        ],
    ),
}
#: Far slower than the others: fewer jobs tell as much.
FEWER = {"RQ": 10, "RQ, SimpleWorker": 4}


@dataclass(frozen=True)
class Figures:
    jobs_per_second: float
    microseconds_per_job: float


class Arena:
    """Where they compete: both brokers, and the file that counts."""

    def __init__(self, broker: str, redis: RedisServer, folder: Path) -> None:
        self._redis = redis
        path = folder / "counts"
        counting.make(path)
        self._counts = counting.Counts(path)
        self._environment = {
            **os.environ,
            "BENCH_BROKER": broker,
            "BENCH_REDIS": redis.url,
            counting.PLACE_VARIABLE: str(path),
            "PYTHONPATH": ".",
        }

    def measure(self, contestant: Contestant, jobs: int) -> Figures:
        self._redis.flush()
        self._counts.clear()
        subprocess.run(
            contestant.enqueue(jobs), env=self._environment, check=True, capture_output=True
        )
        with self._worker(contestant) as worker:
            first = self._wait_for(jobs // 10)
            used = _processor_seconds(worker)
            last = self._wait_for(jobs)
            used = _processor_seconds(worker) - used
        done = last[0] - first[0]
        return Figures(done / (last[1] - first[1]), used / done * 1e6)

    @contextmanager
    def _worker(self, contestant: Contestant) -> Iterator[psutil.Process]:
        command = [word.format(redis=self._redis.url) if word == "{redis}" else word
                   for word in contestant.worker]  # fmt: skip
        process = subprocess.Popen(
            command,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            children = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()

    def _wait_for(self, jobs: int) -> tuple[int, float]:
        until = time.monotonic() + PATIENCE
        while (total := self._counts.total()) < jobs:
            if time.monotonic() > until:
                raise TimeoutError(f"{total} of {jobs} jobs ran within {PATIENCE:g} s")
            time.sleep(0.005)
        return total, time.perf_counter()


def _processor_seconds(process: psutil.Process) -> float:
    """Of the process, its children, and those of them that have ended."""
    everybody = [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:4]) for each in everybody)


def show(figures: Mapping[str, Sequence[Figures]]) -> None:
    best = max(statistics.median(each.jobs_per_second for each in found)
               for name, found in figures.items() if name.startswith("Towline"))  # fmt: skip
    print(f"{'':28}{'jobs/s':>9}  {'spread':>17}{'CPU µs/job':>12}{'best Towline is':>17}")
    for name, found in figures.items():
        rates = sorted(each.jobs_per_second for each in found)
        rate = statistics.median(rates)
        cost = statistics.median(each.microseconds_per_job for each in found)
        spread = f"{rates[0]:,.0f} to {rates[-1]:,.0f}"
        loses = "  acknowledged before they run" if CONTESTANTS[name].loses else ""
        print(f"{name:28}{rate:>9,.0f}  {spread:>17}{cost:>12,.0f}{best / rate:>15.1f} x{loses}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=CONTESTANTS, help="may be repeated")
    options = parser.parse_args()
    names = options.only or list(CONTESTANTS)
    figures: dict[str, list[Figures]] = {name: [] for name in names}
    with (
        processes.fresh_folder() as folder,
        processes.broker(f"file:///{folder}/jobs") as broker,
        RedisServer("redis", "appendonly yes", "appendfsync everysec") as redis,
    ):
        arena = Arena(broker, redis, folder)
        for _ in range(options.rounds):
            for name in names:
                jobs = options.jobs // FEWER.get(name, 1)
                figures[name].append(arena.measure(CONTESTANTS[name], jobs))
    print(f"{options.jobs:,} jobs, {SLOTS} slots, medians of {options.rounds}\n")
    show(figures)


if __name__ == "__main__":
    main()
