"""The driver for PostgreSQL beside the bare client doing the same work, in one run, by turns.

    python -m bench.postgresql postgresql://user@host/database --callers 1 4 16

The bare client is a simple job queue, and no bound, for it joins no calls: one table; a push is one
INSERT of 100 rows, a claim one UPDATE, an acknowledgement one DELETE, each a transaction of its
own. The driver's calls keep the settle memory, counters and leases besides. Works in schemas of
its own, and drops them.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import asyncpg

from towline_broker.domain.jobs import NewJob
from towline_broker.domain.time import MINUTE
from towline_broker.drivers.interface import AckBatch, AckItem, Driver, PushBatch, ReserveRequest
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.factories import new_id

BATCH = 100
PAYLOAD = b"x" * 250
_TABLE = """
CREATE TABLE bare (seq bigserial PRIMARY KEY, id text NOT NULL UNIQUE, queue int NOT NULL,
                   state smallint NOT NULL, lease_until bigint, body bytea NOT NULL);
CREATE INDEX bare_ready ON bare (queue, seq) WHERE state = 2;
"""
_PUSH = (
    "INSERT INTO bare (id, queue, state, body)"
    " SELECT v.id, 1, 2, v.body FROM unnest($1::text[], $2::bytea[]) AS v(id, body)"
)
_CLAIM = (
    "UPDATE bare SET state = 3, lease_until = $1 WHERE seq = ANY(ARRAY(SELECT seq FROM bare"
    " WHERE queue = 1 AND state = 2 ORDER BY seq LIMIT $2 FOR UPDATE SKIP LOCKED))"
    " RETURNING seq, id, body"
)
_ACK = "DELETE FROM bare WHERE seq = ANY($1)"

Call = Callable[[], Awaitable[None]]


class Silent:
    def jobs_ready(self, queue: str, count: int) -> None:
        pass

    def jobs_coming(self, queue: str, count: int) -> None: ...

    def jobs_ended(self, job_ids: Sequence[str]) -> None:
        pass


class Bare:
    """With as many connections as callers."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self, callers: int) -> None:
        self._pool = await asyncpg.create_pool(self._url, min_size=callers, max_size=callers)
        await self._pool.execute(_TABLE)

    async def push(self) -> None:
        await self._pool.execute(_PUSH, [new_id() for _ in range(BATCH)], [PAYLOAD] * BATCH)

    async def reserve(self) -> list[int]:
        rows = await self._pool.fetch(_CLAIM, time.time_ns(), BATCH)
        assert len(rows) == BATCH
        return [row[0] for row in rows]

    async def ack(self, seqs: list[int]) -> None:
        await self._pool.execute(_ACK, seqs)

    async def reserve_and_ack(self) -> None:
        await self.ack(await self.reserve())

    async def close(self) -> None:
        await self._pool.close()


class Towline:
    def __init__(self, url: str) -> None:
        self._url = url
        self._grants = 0

    async def open(self, callers: int) -> None:
        self._driver: Driver = create_driver(self._url)
        await self._driver.open(_now(), Silent())

    async def push(self) -> None:
        jobs = [NewJob(new_id(), "q", "T", PAYLOAD) for _ in range(BATCH)]
        await self._driver.push(PushBatch(jobs, _now(), max_depth={"q": 10_000_000}))

    async def reserve_and_ack(self) -> None:
        self._grants += 1
        now = _now()
        leased = await self._driver.reserve(
            ReserveRequest(["q"], BATCH, MINUTE, f"grant-{self._grants}", now)
        )
        assert len(leased) == BATCH
        acks = [AckItem(one.ref) for one in leased]
        await self._driver.ack(AckBatch(acks, _now(), now + MINUTE))

    async def close(self) -> None:
        await self._driver.close()


def _now() -> int:
    return time.time_ns() // 1_000


async def rate(call: Call, callers: int, seconds: float) -> tuple[float, int]:
    """Jobs per second, and calls made."""
    done = 0
    end = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return done * BATCH / (time.perf_counter() - start), done


async def rates(candidate: Bare | Towline, callers: int, seconds: float) -> tuple[float, float]:
    """Of Push, and of Reserve and Ack of what was pushed."""
    pushed, calls = await rate(candidate.push, callers, seconds)
    left = calls

    async def settle() -> None:
        nonlocal left
        if left > 0:
            left -= 1
            await candidate.reserve_and_ack()

    start = time.perf_counter()

    async def caller() -> None:
        while left > 0:
            await settle()

    await asyncio.gather(*(caller() for _ in range(callers)))
    return pushed, calls * BATCH / (time.perf_counter() - start)


async def measure(url: str, callers: int, seconds: float, rounds: int) -> None:
    found: dict[str, list[tuple[float, float]]] = {"bare": [], "towline": []}
    for turn in range(rounds + 1):
        for name, kind in (("bare", Bare), ("towline", Towline)):
            schema = f"bench_{name}"
            admin = await asyncpg.connect(url)
            await admin.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")
            candidate = kind(f"{url}?search_path={schema}")
            await candidate.open(callers)
            measured = await rates(candidate, callers, seconds if turn else 0.3)
            await candidate.close()
            await admin.execute(f"DROP SCHEMA {schema} CASCADE")
            await admin.close()
            if turn:  # The first one warms up.
                found[name].append(measured)
    medians = {
        name: [statistics.median(column) for column in zip(*values, strict=True)]
        for name, values in found.items()
    }
    for place, what in enumerate(("Push(100)", "Reserve(100) + Ack(100)")):
        bare, towline = medians["bare"][place], medians["towline"][place]
        print(
            f"{callers:3} callers  {what:24} bare {bare:9,.0f}/s  towline {towline:9,.0f}/s"
            f"  ({towline / bare:.2f})",
            flush=True,
        )


async def run(options: argparse.Namespace) -> None:
    for callers in options.callers:
        await measure(options.url, callers, options.seconds, options.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
