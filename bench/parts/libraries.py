"""Jobs that do nothing, drained by one worker: Towline, in each pool, beside other libraries.

Queues are filled first; then the worker starts, and counted is from the first tenth of the jobs to
the last, so without its start. CPU is that of the worker with its children, not of its broker, for
each job. Towline: a broker over the file store, every step synced to the disk. The others: a Redis
server of their own with an append-only file that is synced each second (for procrastinate a
PostgreSQL that syncs each commit), and each library as it comes, but that no results are kept.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from bench import processes
from bench.attempts import told
from bench.options import Options
from bench.peers import counting
from bench.results import Figure, Part
from bench.turns import by_turns
from tests.support.servers.postgres import PostgresServer
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
    "Towline, 2 processes with threads": _towline(processes=2),
    "Towline, 2 processes, async": _towline("nothing_async", pool="async", processes=2),
    "Celery, threads": _celery("threads", "-c", str(SLOTS)),
    "Celery, prefork of 2": _celery("prefork", "-c", "2"),
    "Dramatiq, threads": _dramatiq(),
    "RQ": _rq("rq.Worker"),
    "RQ, SimpleWorker": _rq("rq.SimpleWorker"),
    "arq": Contestant("arq", [str(PEERS / "arq"), "bench.peers.on_arq.WorkerSettings"]),
    "procrastinate, PostgreSQL": Contestant(
        "procrastinate",
        [str(PEERS / "python"), "-m", "bench.peers.on_procrastinate", "worker", str(SLOTS)],
    ),
    "taskiq, Redis streams": Contestant(
        "taskiq",
        [
            *(str(PEERS / "taskiq"), "worker", "bench.peers.on_taskiq:broker"),
            *("--workers", "1", "--max-async-tasks", str(SLOTS), "--log-level", "ERROR"),
        ],
    ),
}
#: Far slower than the others: fewer jobs tell as much.
FEWER = {"RQ": 20, "RQ, SimpleWorker": 4, "procrastinate, PostgreSQL": 4}


RUN = "libraries"
QUICK = ["Towline, threads", "Towline, async", "Celery, threads", "Dramatiq, threads"]


@dataclass(frozen=True)
class Figures:
    jobs_per_second: float
    microseconds_per_job: float


class Arena:
    """Where they compete: both brokers, and the file that counts."""

    def __init__(self, broker: str, redis: RedisServer, postgresql: str, folder: Path) -> None:
        self._redis = redis
        path = folder / "counts"
        counting.make(path)
        self._counts = counting.Counts(path)
        self._environment = {
            **os.environ,
            "BENCH_BROKER": broker,
            "BENCH_REDIS": redis.url,
            "BENCH_POSTGRESQL": postgresql,
            counting.PLACE_VARIABLE: str(path),
            "PYTHONPATH": os.pathsep.join([".", os.environ.get("PYTHONPATH", "")]),
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


def run(part: Part, options: Options) -> None:
    names = list(CONTESTANTS) if not options.quick else QUICK
    if not PEERS.exists():
        part.missing.append("no other libraries: `make bench-peers` brings them")
        names = [name for name in names if CONTESTANTS[name].library == "towline"]
    jobs = options.pick(10_000, quick=2_000)
    with (
        processes.fresh_folder() as folder,
        processes.broker(f"file:///{folder}/jobs") as broker,
        RedisServer("redis", "appendonly yes", "appendfsync everysec") as redis,
        PostgresServer(durable=True) as postgresql,
    ):
        arena = Arena(broker, redis, postgresql.create_database(), folder)

        def turn(name: str) -> Callable[[], Awaitable[Figures]]:
            count = jobs // FEWER.get(name, 1)
            return lambda: asyncio.to_thread(arena.measure, CONTESTANTS[name], count)

        works = {name: turn(name) for name in names}

        def out(name: str, error: Exception) -> None:
            part.failed.append(f"{name}: {told(error)}")

        found = asyncio.run(by_turns(options.rounds, works, warm=False, out=out))
    for name, rounds in found.items():
        note = "acknowledges jobs before they run" if CONTESTANTS[name].loses else ""
        rates, costs = zip(
            *((one.jobs_per_second, one.microseconds_per_job) for one in rounds), strict=True
        )
        part.figures.append(Figure(RUN, name, "No-op jobs", "", "jobs/s", rates, note))
        part.figures.append(Figure(RUN, name, "CPU", "", "µs", costs, note))
    options.tell(part.figures)
