"""How long a store on the disk of its broker takes to open with very many jobs in it.

    python -m bench.restart --jobs 1000000

Each store is filled, as many jobs as ``--churned`` says come and go, and it is left as a kill
leaves it, or closed (``--closed``). Then it is opened in a new process, as a broker does.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from subprocess import run

from bench.postgresql import BATCH, PAYLOAD, Silent
from towline_broker.domain.jobs import NewJob
from towline_broker.domain.time import MINUTE
from towline_broker.drivers.interface import AckBatch, AckItem, Driver, PushBatch, ReserveRequest
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.factories import new_id

STORES = {
    "file": "file:///{}/jobs?max_bytes=64000000000",
    "sqlite": "sqlite:///{}/jobs.db",
}
CALLERS = 4


def _now() -> int:
    return time.time_ns() // 1_000


async def _fill(driver: Driver, jobs: int) -> None:
    async def caller() -> None:
        for _ in range(jobs // BATCH // CALLERS):
            await driver.push(PushBatch(_batch(), _now()))

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def _churn(driver: Driver, jobs: int) -> None:
    for turn in range(jobs // BATCH):
        await driver.push(PushBatch(_batch(), _now()))
        request = ReserveRequest(["q"], BATCH, MINUTE, f"grant-{turn}", _now())
        acks = [AckItem(one.ref) for one in await driver.reserve(request)]
        now = _now()
        await driver.ack(AckBatch(acks, now, now + 10 * MINUTE))


def _batch() -> list[NewJob]:
    return [NewJob(new_id(), "q", "T", PAYLOAD) for _ in range(BATCH)]


async def _filled(url: str, jobs: int, churned: int, closed: bool) -> None:
    driver = create_driver(url)
    await driver.open(_now(), Silent())
    await _fill(driver, jobs)
    await _churn(driver, churned)
    if not closed:
        os._exit(0)
    await driver.close()


async def _opened(url: str) -> None:
    driver = create_driver(url)
    start, cpu = time.perf_counter(), time.process_time()
    await driver.open(_now(), Silent())
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    (counts,) = await driver.counts()
    print(
        f"opened with {counts.depth.ready:,} jobs in {seconds:.1f} s"
        f" ({cpu:.1f} s of the processor)",
        flush=True,
    )
    await driver.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--churned", type=int, default=100_000)
    parser.add_argument("--closed", action="store_true")
    parser.add_argument("--stores", nargs="*", choices=STORES, default=list(STORES))
    parser.add_argument("--fill", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--open", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        asyncio.run(_filled(options.fill, options.jobs, options.churned, options.closed))
    elif options.open:
        asyncio.run(_opened(options.open))
    else:
        for kind in options.stores:
            with tempfile.TemporaryDirectory() as folder:
                _measure(kind, Path(folder), options)


def _measure(kind: str, folder: Path, options: argparse.Namespace) -> None:
    url = STORES[kind].format(folder)
    again = [sys.executable, "-m", "bench.restart", "--jobs", str(options.jobs)]
    churned = ["--churned", str(options.churned), *(["--closed"] if options.closed else [])]
    run([*again, *churned, "--fill", url], check=True)
    print(f"{kind:8}", end="", flush=True)
    run([*again, "--open", url], check=True)


if __name__ == "__main__":
    main()
