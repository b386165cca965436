"""Redis: reserves that are joined are granted what each would have been granted by itself."""

import asyncio
import itertools
import random
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.servers.redis import RedisServer
from tests.support.stores import LEASE, ack, open_store, push
from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.jobs import Counts, Leased, NewJob
from towline_broker.domain.time import HOUR
from towline_broker.drivers.interface import ReserveRequest
from towline_broker.drivers.redis import RedisDriver, leasing, open_redis
from towline_broker.testing.factories import START, new_job, new_jobs

_RUN = secrets.token_hex(4)
_stores = itertools.count(1)


@asynccontextmanager
async def opened(server: RedisServer) -> AsyncIterator[RedisDriver]:
    async with open_store(open_redis(f"{server.url}?prefix=claims-{_RUN}-{next(_stores)}")) as at:
        yield at


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each run of the script: how many requests it served."""
    served: list[int] = []
    serve = leasing.Leasing._serve

    async def noted(
        driver: leasing.Leasing, partition: int, queues: Any, requests: Any, now: int
    ) -> Any:
        served.append(len(requests))
        return await serve(driver, partition, queues, requests, now)

    monkeypatch.setattr(leasing.Leasing, "_serve", noted)
    return served


def wants_one(number: int, *, queue: str = "q", **fields: Any) -> ReserveRequest:
    given = {"now": START + number, "lease": LEASE + number, "worker_id": f"w{number}", **fields}
    return ReserveRequest([queue], 1, grant=f"grant-{number}", **given)


async def at_once(driver: RedisDriver, requests: Sequence[ReserveRequest]) -> list[list[Leased]]:
    return await asyncio.gather(*map(driver.reserve, requests))


async def in_turn(driver: RedisDriver, requests: Sequence[ReserveRequest]) -> list[list[Leased]]:
    return [await driver.reserve(request) for request in requests]


async def test_who_came_first_is_granted_the_first_job_and_each_has_its_own_lease(
    redis_server: RedisServer, runs: list[int]
) -> None:
    async with opened(redis_server) as driver:
        await push(driver, *(jobs := new_jobs(4)))
        granted = await at_once(driver, [wants_one(number) for number in range(1, 7)])
        assert runs == [6]
        assert [[one.ref.job_id for one in leased] for leased in granted] == [
            *([job.id] for job in jobs),
            [],
            [],
        ]
        for number, (leased,) in enumerate(granted[:4], start=1):
            assert leased.ref.grant == f"grant-{number}"
            assert leased.lease_until == START + LEASE + 2 * number
            assert (await ack(driver, [leased]))[0].elapsed == -number


@pytest.mark.parametrize("seed", range(16))
async def test_together_they_are_granted_what_each_is_alone(
    redis_server: RedisServer, runs: list[int], seed: int
) -> None:
    choose = random.Random(seed)
    jobs = _jobs(choose)
    rounds = [_requests(choose, number) for number in range(4)]
    answers: list[list[list[list[Leased]]]] = []
    counts: list[Sequence[Counts]] = []
    for play in (at_once, in_turn):
        async with opened(redis_server) as driver:
            await push(driver, *jobs)
            answers.append([await play(driver, requests) for requests in rounds])
            counts.append(sorted(await driver.counts(), key=lambda one: (one.queue, one.type)))
    assert answers[0] == answers[1]
    assert counts[0] == counts[1]
    assert max(runs) > 1


async def test_many_jobs_too_old_are_passed_over_by_whoever_finds_none_behind_them(
    redis_server: RedisServer, runs: list[int]
) -> None:
    """One run looks at so many: who got nothing in it asks again."""
    async with opened(redis_server) as driver:
        await push(driver, *(new_job("q", expires_at=START + 1) for _ in range(1_500)))
        await push(driver, *(jobs := new_jobs(2)))
        granted = await at_once(driver, [wants_one(number) for number in (5, 6, 7)])
        assert sorted(one.ref.job_id for leased in granted for one in leased) == sorted(
            job.id for job in jobs
        )
        assert runs[0] == 3
        assert set(runs[1:]) == {1}


async def test_what_is_large_does_not_go_to_many_in_one_answer(
    redis_server: RedisServer, runs: list[int]
) -> None:
    async with opened(redis_server) as driver:
        jobs = [new_job("q", envelope=bytes(3 << 20)) for _ in range(5)]
        await push(driver, *jobs)
        granted = await at_once(driver, [wants_one(number) for number in range(5)])
        assert {leased[0].ref.job_id for leased in granted} == {job.id for job in jobs}
        assert runs == [5, 1, 1]


async def test_an_error_comes_to_all_that_went_together_and_one_that_is_gone_bothers_none(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(redis_server) as driver:
        await push(driver, *(jobs := new_jobs(2)))
        asked = [asyncio.create_task(driver.reserve(wants_one(number))) for number in range(3)]
        await asyncio.sleep(0)
        asked[0].cancel()
        granted = await asyncio.gather(*asked[1:])
        assert [one.ref.job_id for leased in granted for one in leased] == [job.id for job in jobs]

        async def fails(*_: Any) -> None:
            raise StoreUnavailable("gone")

        monkeypatch.setattr(driver, "_serve", fails)
        outcomes = await asyncio.gather(
            *(driver.reserve(wants_one(number)) for number in range(3)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3


def _jobs(choose: random.Random) -> list[NewJob]:
    """Some seeds have jobs that are too old for some of the calls, some have two priorities."""
    ages = [None, None, None, START + 150, START + HOUR] if choose.random() < 0.5 else [None]
    priorities = [0, 0, 0, 1] if choose.random() < 0.5 else [0]
    return [
        new_job(
            choose.choice(["q", "q", "r"]),
            envelope=bytes(choose.randrange(1, 50)),
            expires_at=choose.choice(ages),
            priority=choose.choice(priorities),
        )
        for _ in range(30)
    ]


def _requests(choose: random.Random, number: int) -> list[ReserveRequest]:
    """Some repeat others of theirs or of an earlier round."""
    return [
        wants_one(
            100 * number + place,
            queue="q" if choose.random() < 0.7 else "r",
            request_id=f"w:{choose.randrange(6)}" if choose.random() < 0.3 else "",
            max_bytes=choose.choice([None, 1, 1_000]),
        )
        for place in range(choose.randrange(2, 12))
    ]
