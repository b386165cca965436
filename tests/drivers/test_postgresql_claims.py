"""PostgreSQL: claims that are joined are granted what each would have been granted by itself."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.databases import opened
from tests.support.servers.postgres import PostgresServer
from tests.support.stores import LEASE, ack, push, with_options
from towline_broker.domain.jobs import Leased, NewJob
from towline_broker.domain.time import HOUR
from towline_broker.drivers.interface import Driver, ReserveRequest
from towline_broker.drivers.sql.postgresql.hot import PostgresHot
from towline_broker.testing.factories import START, new_job, new_jobs


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each claim for several calls: how many of them were granted a job."""
    found: list[int] = []
    claim_each = PostgresHot.claim_each

    async def noted(hot: PostgresHot, *arguments: Any) -> Any:
        claimed = await claim_each(hot, *arguments)
        found.append(len(claimed))
        return claimed

    monkeypatch.setattr(PostgresHot, "claim_each", noted)
    return found


def wants_one(number: int, *, queue: str = "q", **fields: Any) -> ReserveRequest:
    given = {"now": START + number, "lease": LEASE + number, "worker_id": f"w{number}", **fields}
    return ReserveRequest([queue], 1, grant=f"grant-{number}", **given)


async def at_once(driver: Driver, requests: Sequence[ReserveRequest]) -> list[list[Leased]]:
    return await asyncio.gather(*map(driver.reserve, requests))


async def in_turn(driver: Driver, requests: Sequence[ReserveRequest]) -> list[list[Leased]]:
    return [await driver.reserve(request) for request in requests]


async def test_who_came_first_is_granted_the_first_job_and_each_has_its_own_lease(
    postgres_server: PostgresServer, joined: list[int]
) -> None:
    url = with_options(postgres_server.create_database(), "lanes=1")
    async with opened(url) as driver:
        await push(driver, *(jobs := new_jobs(5)))
        await in_turn(driver, [wants_one(0)])
        granted = await at_once(driver, [wants_one(number) for number in range(1, 7)])
        assert joined == [4]
        assert [[one.ref.job_id for one in leased] for leased in granted] == [
            *([job.id] for job in jobs[1:]),
            [],
            [],
        ]
        for number, (leased,) in enumerate(granted[:4], start=1):
            assert leased.ref.grant == f"grant-{number}"
            assert leased.lease_until == START + LEASE + 2 * number
            assert (await ack(driver, [leased]))[0].elapsed == -number
        (record,) = await driver.leases([granted[0][0].ref])
        assert record is None


@pytest.mark.parametrize("seed", range(12))
async def test_together_they_are_granted_what_each_is_alone(
    postgres_server: PostgresServer, joined: list[int], seed: int
) -> None:
    choose = random.Random(seed)
    first, jobs = [new_job("q"), new_job("r")], _jobs(choose)
    rounds = [_requests(choose, number) for number in range(4)]
    answers = []
    for play in (at_once, in_turn):
        url = with_options(postgres_server.create_database(), "lanes=1")
        async with opened(url) as driver:
            await push(driver, *first)
            # That their queues have one line each is remembered then; and may be wrong.
            await in_turn(driver, [wants_one(9_998), wants_one(9_999, queue="r")])
            await push(driver, *jobs)
            answers.append([await play(driver, requests) for requests in rounds])
    assert answers[0] == answers[1]
    assert joined


def _jobs(choose: random.Random) -> list[NewJob]:
    """Some seeds have jobs that are too old for some of the calls, some have two priorities."""
    ages = [None, None, None, START + 150, START + HOUR] if choose.random() < 0.5 else [None]
    priorities = [0, 0, 0, 1] if choose.random() < 0.3 else [0]
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
