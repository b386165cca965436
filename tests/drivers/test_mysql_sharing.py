"""MariaDB: several brokers on one store hear of each other, do not get in each other's way, and
never both win."""

import asyncio
import random
from collections import Counter

import pytest

from tests.drivers.mysql_support import opened
from tests.drivers.postgresql_support import ack, push, reserve
from tests.drivers.test_mysql_faults import kill_sessions
from tests.support.servers.mariadb import MariaDBServer
from tests.support.waiting import until
from towline_broker.drivers.interface import Driver, PushBatch, PushOutcome
from towline_broker.drivers.sql.mysql import news
from towline_broker.drivers.sql.shared.driver import SharedSqlDriver
from towline_broker.drivers.sql.transaction import Reader
from towline_broker.testing.factories import START, new_job, new_jobs
from towline_broker.testing.store import Heard


@pytest.fixture
def url(mariadb_server: MariaDBServer) -> str:
    return mariadb_server.create_database()


async def test_p2_in_a_storm_of_claims_no_job_is_leased_twice(url: str) -> None:
    async with opened(url) as a, opened(url) as b, opened(url) as c:
        drivers = (a, b, c)
        jobs = [new_job(priority=number % 3) for number in range(600)]
        for start in range(0, 600, 300):
            await push(a, *jobs[start : start + 300])
        held: Counter[str] = Counter()

        async def worker(driver: Driver) -> None:
            while leased := await reserve(driver, random.randint(1, 30)):
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


async def test_p3_of_the_same_batch_pushed_at_every_broker_each_job_is_stored_once(
    url: str,
) -> None:
    async with opened(url) as a, opened(url) as b:
        for turn in range(5):
            jobs = [
                new_job(f"queue-{random.randint(1, 30)}", unique_key=f"{turn}.{number}")
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
        assert sum(counts.totals.pushed for counts in await a.counts()) == 100
        # Queues made by one are known to the other.
        names = {state.name for state in await b.queues()}
        assert len(await reserve(a, 500, *names)) == 100


async def test_p8_a_push_and_an_end_at_one_broker_are_heard_at_the_other(url: str) -> None:
    heard_a, heard_b = Heard(), Heard()
    async with opened(url, heard_a) as a, opened(url, heard_b) as b:
        await settled(heard_a, heard_b)
        await push(a, *(jobs := new_jobs(3)))

        async def ready() -> bool:
            return heard_b.ready["q"] == 3

        await until(ready, "b hears of the jobs")
        await ack(b, await reserve(b, 3))

        async def ended() -> bool:
            return {job.id for job in jobs} <= set(heard_a.ended)

        await until(ended, "a hears of their end")


async def test_p8_a_broker_that_comes_later_is_told_of_what_follows(url: str) -> None:
    heard = Heard()
    async with opened(url) as a:
        await push(a, new_job())
        async with opened(url, heard) as b:
            assert heard.ready["q"] == 1
            await reserve(b, 1)
            await push(a, new_job())

            async def ready() -> bool:
                return heard.ready["q"] >= 2

            await until(ready, "the later broker hears of the second job")


async def test_p8_what_was_missed_while_nothing_could_be_heard_is_found(
    mariadb_server: MariaDBServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "RECONNECT", 0.05)
    heard_a, heard_b = Heard(), Heard()
    async with opened(url, heard_a) as a, opened(url, heard_b):
        await settled(heard_a, heard_b)
        await asyncio.to_thread(kill_sessions, mariadb_server, url)
        await push(a, new_job())

        async def ready() -> bool:
            return heard_b.ready["q"] > 0

        await until(ready, "b finds the job")


async def test_news_are_forgotten(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "_KEPT", 0.1)
    async with opened(url) as a, opened(url) as b:
        await settled()

        async def first_is_gone() -> bool:
            await push(a, new_job())
            oldest = await oldest_news(b)
            return oldest is not None and oldest > 1

        await until(first_is_gone, "old news are gone")


async def test_p11_a_limit_holds_for_calls_one_after_the_other_at_any_broker(url: str) -> None:
    async with opened(url) as a, opened(url) as b:
        for number in range(10):
            batch = PushBatch([new_job()], START, False, {"q": 7})
            (result,) = await (a, b)[number % 2].push(batch)
            full = number >= 7
            assert result.outcome is (PushOutcome.QUEUE_FULL if full else PushOutcome.CREATED)


async def test_brokers_that_start_at_once_on_a_new_database_do_not_clash(url: str) -> None:
    async def open_and_push() -> PushOutcome:
        async with opened(f"{url}?lanes=1") as driver:
            return (await push(driver, new_job("same")))[0].outcome

    outcomes = await asyncio.gather(*(open_and_push() for _ in range(4)))
    assert outcomes == [PushOutcome.CREATED] * 4


async def settled(*heard: Heard) -> None:
    """Brokers that have just come have noticed each other, and told each other all."""
    await asyncio.sleep(2 * news.LOOK_AROUND)
    for one in heard:
        one.take()


async def oldest_news(driver: SharedSqlDriver) -> int | None:
    async def read(reader: Reader) -> int | None:
        found: int | None = (await reader.rows("SELECT MIN(serial) FROM towline_news"))[0][0]
        return found

    return await driver._read(read)
