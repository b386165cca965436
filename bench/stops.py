"""How long the file store keeps the event loop from anything else, with very many jobs.

    python -m bench.stops --jobs 1000000

The store is filled; then a hundred jobs are pushed, reserved and acknowledged, over and over, which
makes it give up old segments all the while; then it is closed and opened again. Of every step of
the loop the time on the clock and the time of the processor are taken: the first also holds what
the writing thread and other processes took.
"""

import argparse
import asyncio
import tempfile
import time
from asyncio import events
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.postgresql import BATCH, PAYLOAD, Silent
from towline_broker.domain.jobs import NewJob
from towline_broker.domain.time import MINUTE, SECOND
from towline_broker.drivers.file import FileDriver
from towline_broker.drivers.file.driver import open_file
from towline_broker.drivers.interface import AckBatch, AckItem, PushBatch, ReserveRequest
from towline_broker.server.garbage import collect_seldom
from towline_broker.testing.factories import new_id

CALLERS = 4


class Steps:
    """Times every step of the running loop within its block."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self._original: Any = events.Handle._run

    def __enter__(self) -> Self:
        original = self._original

        def timed(handle: events.Handle) -> None:
            wall, cpu = time.perf_counter(), time.thread_time()
            original(handle)
            self.cpu.append(time.thread_time() - cpu)
            self.wall.append(time.perf_counter() - wall)

        events.Handle._run = timed  # type: ignore[assignment,method-assign]  # to be timed
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        events.Handle._run = self._original  # type: ignore[method-assign]  # as it was

    def report(self, name: str, seconds: float) -> None:
        cpu, wall = sorted(self.cpu), sorted(self.wall)
        p999 = int(len(cpu) * 0.999)
        longest = ", ".join(f"{1e3 * each:.1f}" for each in cpu[-3:][::-1])
        print(
            f"{name:16} {len(cpu):>9,} steps in {seconds:3.0f} s, {sum(cpu):.1f} s of the"
            f" processor, p99.9 {1e3 * cpu[p999]:.2f} ms, longest {longest} ms; by the clock p99.9"
            f" {1e3 * wall[p999]:.2f} ms, longest {1e3 * wall[-1]:.1f} ms",
            flush=True,
        )


def _now() -> int:
    return time.time_ns() // 1_000


async def _push(driver: FileDriver) -> None:
    jobs = [NewJob(new_id(), "q", "T", PAYLOAD) for _ in range(BATCH)]
    await driver.push(PushBatch(jobs, _now(), max_depth={"q": 100_000_000}))


async def _fill(driver: FileDriver, jobs: int) -> None:
    async def caller() -> None:
        for _ in range(jobs // BATCH // CALLERS):
            await _push(driver)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def _churn(driver: FileDriver, jobs: int) -> None:
    async def caller(number: int) -> None:
        for turn in range(jobs // BATCH // CALLERS):
            await _push(driver)
            request = ReserveRequest(["q"], BATCH, MINUTE, f"grant-{number}-{turn}", _now())
            leased = await driver.reserve(request)
            now = _now()
            acks = [AckItem(one.ref) for one in leased]
            await driver.ack(AckBatch(acks, now, now + 10 * SECOND))
            await driver.forget(now, 1_000)

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))


async def run(jobs: int, churned: int, folder: Path) -> None:
    url = f"file:///{folder}/jobs?max_bytes=8000000000"
    driver = open_file(url)
    await driver.open(_now(), Silent())
    for name, work in (
        ("filling", _fill(driver, jobs)),
        ("coming and going", _churn(driver, churned)),
    ):
        start = time.perf_counter()
        with Steps() as steps:
            await work
        steps.report(name, time.perf_counter() - start)
    await driver.close()
    start, cpu = time.perf_counter(), time.process_time()
    await driver.open(_now(), Silent())
    print(
        f"opened again with {jobs:,} jobs in {time.perf_counter() - start:.1f} s"
        f" ({time.process_time() - cpu:.1f} s of the processor)"
    )
    await driver.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--churned", type=int, default=1_000_000)
    options = parser.parse_args()
    collect_seldom()  # as a broker does
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(options.jobs, options.churned, Path(folder)))


if __name__ == "__main__":
    main()
