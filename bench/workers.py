"""What a worker does with jobs that do nothing, by where its handlers run.

    python -m bench.workers --jobs 10000 --rounds 5

One broker over the file store; its queue is filled, then the worker starts. Counted is from the
first tenth of the jobs to the last, so without the start of the worker. By turns, medians. The
processor's time is that of the worker with its children, not the broker's, per job.

Then how long it takes until a job runs after a child of a process pool was killed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from bench import processes
from towline import Client, JobRequest
from towline.v1.admin_service_pb2 import ResetStatsRequest, StatsRequest
from towline.v1.admin_service_pb2_grpc import AdminServiceStub

SLOTS = 8
WORKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "thread": ("nothing", {"pool": "thread", "concurrency": SLOTS}),
    "async": ("nothing_async", {"pool": "async", "concurrency": SLOTS}),
    "process": ("nothing", {"pool": "process", "concurrency": SLOTS}),
    "thread, 2 processes": ("nothing", {"processes": 2, "concurrency": SLOTS}),
    "async, 2 processes": (
        "nothing_async",
        {"pool": "async", "processes": 2, "concurrency": SLOTS},
    ),
}


@dataclass(frozen=True)
class Figures:
    jobs_per_second: float
    microseconds_per_job: float
    """Of the processor."""


@contextmanager
def worker(address: str, options: dict[str, Any]) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.working", address, json.dumps(options)],
        stderr=subprocess.DEVNULL,  # it says how each of its children was killed
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=60)


def measure(address: str, name: str, jobs: int) -> Figures:
    job_type, options = WORKERS[name]
    with Client(address) as client:
        admin = AdminServiceStub(client.channel)
        admin.ResetStats(ResetStatsRequest())
        client.dispatch_batch(JobRequest(job_type, {}) for _ in range(jobs))
        with worker(address, options) as process:
            first = _wait_for(admin, jobs // 10, process)
            used = _processor_seconds(process)
            last = _wait_for(admin, jobs, process)
            used = _processor_seconds(process) - used
    done = last[0] - first[0]
    return Figures(done / (last[1] - first[1]), used / done * 1e6)


def _wait_for(admin: AdminServiceStub, jobs: int, process: psutil.Process) -> tuple[int, float]:
    """When at least so many were completed: how many, and the time."""
    while process.status() != psutil.STATUS_ZOMBIE:
        completed = admin.Stats(StatsRequest()).total.totals.completed
        if completed >= jobs:
            return completed, time.perf_counter()
        time.sleep(0.02)
    raise RuntimeError(f"the worker ended before {jobs} jobs were done")


def _processor_seconds(process: psutil.Process) -> float:
    everybody = [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in everybody)


def replacement(address: str, folder: Path, times: int) -> list[float]:
    """Seconds from the death of a child to the handler of the next job."""
    path = {"path": str(folder / "died")}
    with Client(address) as client, worker(address, {"pool": "process", "concurrency": 1}):
        took = []
        for _ in range(times):
            client.dispatch("die", path)
            took.append(client.dispatch("since", path).result(60))
    return took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", action="append", choices=WORKERS, help="may be repeated")
    options = parser.parse_args()
    names = options.worker or list(WORKERS)
    figures: dict[str, list[Figures]] = {name: [] for name in names}
    with processes.fresh_folder() as folder, processes.broker(f"file:///{folder}/jobs") as address:
        for _ in range(options.rounds):
            for name in names:
                figures[name].append(measure(address, name, options.jobs))
        print(f"{options.jobs} jobs, {SLOTS} slots, medians of {options.rounds}\n")
        print(f"{'':22}{'jobs/s':>10}{'CPU µs/job':>12}")
        for name, found in figures.items():
            rate = statistics.median(each.jobs_per_second for each in found)
            cost = statistics.median(each.microseconds_per_job for each in found)
            print(f"{name:22}{rate:>10,.0f}{cost:>12.0f}")
        took = sorted(replacement(address, folder, 20))
    print(f"\nmilliseconds from a killed child to the next job: {took[10] * 1e3:.1f}", end="")
    print(f" (the longest of 20: {took[-1] * 1e3:.1f})")


if __name__ == "__main__":
    main()
