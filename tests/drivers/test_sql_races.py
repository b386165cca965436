"""What every database owes: several brokers on one store do not get in each other's way, and never
both win."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from tests.support.databases import Database, opened
from tests.support.stores import ack, push, reserve, with_options
from tests.support.waiting import until
from towline_broker.domain.time import HOUR, MINUTE
from towline_broker.drivers.interface import Driver, PushBatch, PushOutcome, ReserveRequest
from towline_broker.drivers.sql import claims
from towline_broker.drivers.sql.shared import heads
from towline_broker.drivers.sql.transaction import Transaction
from towline_broker.testing.factories import START, new_job, new_jobs


@pytest.fixture
def url(database: Database) -> str:
    return database.new_store()


@pytest.mark.parametrize(("priorities", "most"), [(1, 30), (3, 30), (1, 1)])
async def test_p2_in_a_storm_of_claims_no_job_is_leased_twice(
    url: str, priorities: int, most: int
) -> None:
    async with opened(url) as a, opened(url) as b, opened(url) as c:
        drivers = (a, b, c)
        jobs = [new_job(priority=number % priorities) for number in range(600)]
        for start in range(0, 600, 300):
            await push(a, *jobs[start : start + 300])
        held: Counter[str] = Counter()

        async def worker(driver: Driver) -> None:
            while leased := await reserve(driver, random.randint(1, most)):
                held.update(one.ref.job_id for one in leased)
                settled = await ack(random.choice(drivers), leased)
                assert all(one.applied for one in settled)

        await asyncio.gather(*(worker(driver) for driver in drivers for _ in range(4)))

        # What another's claim had locked just then was passed over; it is found a little later.
        async def all_held() -> bool:
            await worker(a)
            return len(held) == len(jobs)

        await until(all_held, "every job was leased")
        assert held == Counter(job.id for job in jobs)
        totals = [counts.totals for counts in await b.counts()]
        assert sum(one.started for one in totals) == sum(one.completed for one in totals) == 600


async def test_a_claim_meets_a_job_in_the_moment_in_which_it_is_committed(url: str) -> None:
    """Its envelope is there, whatever the claim had seen when it began."""
    async with opened(url) as a, opened(url) as b:
        left = Counter(range(400))
        held: Counter[bytes] = Counter()

        async def producer(driver: Driver) -> None:
            while left:
                number = left.popitem()[0]
                await push(driver, new_job(envelope=f"{number}".encode()))

        async def worker(driver: Driver) -> None:
            while held.total() < 400:
                held.update(one.envelope for one in await reserve(driver, 3))

        async with asyncio.timeout(60):
            await asyncio.gather(producer(a), producer(b), producer(a), worker(a), worker(b))
        assert held == Counter(f"{number}".encode() for number in range(400))


async def test_p3_of_the_same_batch_pushed_at_every_broker_each_job_is_stored_once(
    url: str,
) -> None:
    async with opened(url) as a, opened(url) as b:
        for turn in range(10):
            jobs = [
                new_job(f"queue-{random.randint(1, 50)}", unique_key=f"{turn}.{number}")
                for number in range(20)
            ]
            orders = [jobs, list(reversed(jobs)), jobs, list(reversed(jobs))]
            answers = await asyncio.gather(
                *(push(driver, *order) for driver, order in zip((a, b, b, a), orders, strict=True))
            )
            created = Counter(
                result.job_id
                for answer in answers
                for result in answer
                if result.outcome is PushOutcome.CREATED
            )
            assert created == Counter(job.id for job in jobs)
        assert sum(counts.totals.pushed for counts in await a.counts()) == 200
        # Queues made by one are known to the other.
        names = {state.name for state in await b.queues()}
        assert len(await reserve(a, 500, *names)) == 200


async def test_p11_a_limit_holds_for_calls_one_after_the_other_at_any_broker(url: str) -> None:
    async with opened(url) as a, opened(url) as b:
        for number in range(10):
            batch = PushBatch([new_job()], START, False, {"q": 7})
            (result,) = await (a, b)[number % 2].push(batch)
            full = number >= 7
            assert result.outcome is (PushOutcome.QUEUE_FULL if full else PushOutcome.CREATED)


async def test_p8_a_lease_that_another_broker_granted_is_found_where_looks_begin_later(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "SLOW", -1.0)  # every look counts as slow
    async with opened(url) as a, opened(url) as b:
        await push(a, *new_jobs(2))
        (late,) = await reserve(a, 1, now=START + HOUR)
        assert await a.next_due() == late.lease_until
        (early,) = await reserve(b, 1)

        async def seen() -> bool:
            return await a.next_due() == early.lease_until

        await until(seen, "the earlier lease is seen", 5)
        overdue = await a.expired_leases(early.lease_until, 10)
        assert [lease.ref for lease in overdue] == [early.ref]


async def test_brokers_that_start_at_once_on_a_new_database_do_not_clash(url: str) -> None:
    async def open_and_push() -> PushOutcome:
        async with opened(with_options(url, "lanes=1")) as driver:
            return (await push(driver, new_job("same")))[0].outcome

    outcomes = await asyncio.gather(*(open_and_push() for _ in range(4)))
    assert outcomes == [PushOutcome.CREATED] * 4


async def test_p6_jobs_of_a_claim_that_is_rolled_back_are_first_again(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another claim has passed over them in the meantime."""
    async with opened(with_options(url, "lanes=2")) as driver:
        await push(driver, *(jobs := new_jobs(3)))
        rolling_back, go_on = asyncio.Event(), asyncio.Event()
        rollback: Any = database.session.rollback

        async def later(session: Any) -> None:
            rolling_back.set()
            await go_on.wait()
            await rollback(session)

        async def claims_in_vain(transaction: Transaction) -> None:
            request = ReserveRequest(["q"], 1, MINUTE, "in vain", START, "worker", "in vain")
            assert await claims.reserve(transaction, request)
            raise RuntimeError("what comes behind a claim fails")

        monkeypatch.setattr(database.session, "rollback", later)
        failing = asyncio.create_task(driver._change(claims_in_vain))
        await rolling_back.wait()
        [second] = await reserve(driver, 1)
        go_on.set()
        with pytest.raises(RuntimeError):
            await failing
        [first] = await reserve(driver, 1)
        assert [first.ref.job_id, second.ref.job_id] == [job.id for job in jobs[:2]]
