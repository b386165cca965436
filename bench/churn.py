"""The time of a claim over very many jobs that come and go.

    python -m bench.churn --jobs 1000000 --svg docs/churn.svg

A hundred jobs are pushed, reserved and acknowledged, over and over, while a thousand wait; upkeep
runs as in a broker. Printed is what a claim of a hundred took for each job, for every 10,000 jobs
(the fastest tenth of their claims, for the machine may have other things to do): by the driver, and
by the best single statement over the bare client; each once alone, and once while another session
holds a transaction open that could still see every row since its start. A series that lasts longer
than ``--at-most`` is stopped where it is. Starts a server of its own, or works in a schema of its
own in the database that ``--url`` names, and drops it.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from bench.plot import Series, write_svg
from bench.postgresql import BATCH, PAYLOAD, Bare, Silent
from tests.support.servers.postgres import PostgresServer
from towline_broker.domain.jobs import NewJob
from towline_broker.domain.time import MINUTE, SECOND
from towline_broker.drivers.interface import AckBatch, AckItem, Driver, PushBatch, ReserveRequest
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.factories import new_id

#: Jobs for which one figure is given.
STEP = 10_000
WAITING = 1_000
#: How long jobs are remembered: short, so that forgetting is part of what is measured.
MEMORY = 10 * SECOND


def _now() -> int:
    return time.time_ns() // 1_000


class BareChurn:
    def __init__(self, url: str) -> None:
        self._bare = Bare(url)

    async def __aenter__(self) -> "BareChurn":
        await self._bare.open(1)
        return self

    async def push(self) -> None:
        await self._bare.push()

    async def claim(self) -> float:
        start = time.perf_counter()
        seqs = await self._bare.reserve()
        took = time.perf_counter() - start
        await self._bare.ack(seqs)
        return took

    async def __aexit__(self, *_: object) -> None:
        await self._bare.close()


class DriverChurn:
    def __init__(self, url: str) -> None:
        self._driver: Driver = create_driver(url)
        self._grants = 0

    async def __aenter__(self) -> "DriverChurn":
        await self._driver.open(_now(), Silent())
        self._upkeep = asyncio.create_task(self._keep_up())
        return self

    async def push(self) -> None:
        jobs = [NewJob(new_id(), "q", "T", PAYLOAD) for _ in range(BATCH)]
        await self._driver.push(PushBatch(jobs, _now(), max_depth={"q": 10_000_000}))

    async def claim(self) -> float:
        self._grants += 1
        request = ReserveRequest(["q"], BATCH, MINUTE, f"grant-{self._grants}", _now())
        start = time.perf_counter()
        leased = await self._driver.reserve(request)
        took = time.perf_counter() - start
        if len(leased) != BATCH:
            raise AssertionError(f"reserved {len(leased)} of {BATCH}")
        now = _now()
        await self._driver.ack(AckBatch([AckItem(one.ref) for one in leased], now, now + MEMORY))
        return took

    async def __aexit__(self, *_: object) -> None:
        self._upkeep.cancel()
        await asyncio.gather(self._upkeep, return_exceptions=True)
        await self._driver.close()

    async def _keep_up(self) -> None:
        while True:
            await self._driver.next_due()
            await self._driver.expired_leases(_now(), 1_000)
            while await self._driver.forget(_now(), 1_000) >= 1_000:
                pass
            await asyncio.sleep(0.5)


@asynccontextmanager
async def idle_transaction(url: str, *, held: bool) -> AsyncIterator[None]:
    connection = await asyncpg.connect(url)
    if held:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class")
    yield
    await connection.close()


async def churn(
    kind: type[BareChurn] | type[DriverChurn], url: str, jobs: int, at_most: float
) -> list[float]:
    """Microseconds a job, for every step."""
    end = time.perf_counter() + at_most
    figures: list[float] = []
    async with kind(url) as candidate:
        for _ in range(WAITING // BATCH):
            await candidate.push()
        for _ in range(jobs // STEP):
            claims = []
            for _ in range(STEP // BATCH):
                await candidate.push()
                claims.append(await candidate.claim())
            figures.append(sorted(claims)[len(claims) // 10] / BATCH * 1e6)
            if time.perf_counter() > end:
                break
    return figures


def report(name: str, figures: list[float], seconds: float) -> None:
    part = max(1, len(figures) // 10)
    first, last = statistics.median(figures[:part]), statistics.median(figures[-part:])
    print(
        f"{name:32} first tenth {first:7.1f} µs a job, last tenth {last:7.1f}"
        f" ({last / first:.2f}), most {max(figures):7.1f};"
        f" {len(figures) * STEP:,} jobs in {seconds:.0f} s",
        flush=True,
    )


async def run(options: argparse.Namespace) -> None:
    series: list[Series] = []
    kinds = (("Towline", DriverChurn), ("bare statement", BareChurn))
    for held in (False, True):
        for name, kind in kinds:
            if name not in options.only:
                continue
            admin = await asyncpg.connect(options.url)
            drop = "DROP SCHEMA IF EXISTS bench_churn CASCADE"
            await admin.execute(f"{drop}; CREATE SCHEMA bench_churn")
            url = f"{options.url}?search_path=bench_churn"
            title = f"{name}, {'old transaction open' if held else 'alone'}"
            async with idle_transaction(options.url, held=held):
                start = time.perf_counter()
                figures = await churn(kind, url, options.jobs, options.at_most)
                report(title, figures, time.perf_counter() - start)
            await admin.execute(drop)
            await admin.close()
            series.append(Series(title, figures))
    if options.svg:
        title = "Claim time per job over churn at batch 100 (µs, log scale)"
        write_svg(options.svg, title, "jobs", STEP, series)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="postgresql://user@host/database")
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--at-most", type=float, default=600, help="seconds for each series")
    parser.add_argument("--svg", type=Path, help="where to write the plot")
    names = ["Towline", "bare statement"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    options = parser.parse_args()
    if options.url:
        asyncio.run(run(options))
        return
    with PostgresServer(durable=True) as server:
        options.url = server.create_database()
        asyncio.run(run(options))


if __name__ == "__main__":
    main()
