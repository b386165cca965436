"""MariaDB: what is done at one broker is heard at the others at once (P8)."""

import asyncio

import pytest

from tests.support.databases import MariaDB, opened
from tests.support.servers.mariadb import MariaDBServer
from tests.support.stores import ack, push, reserve
from tests.support.waiting import until
from towline_broker.drivers.sql.mysql import news
from towline_broker.drivers.sql.shared.driver import SharedSqlDriver
from towline_broker.drivers.sql.transaction import Reader
from towline_broker.testing.factories import new_job, new_jobs
from towline_broker.testing.heard import Heard


@pytest.fixture
def url(mariadb_server: MariaDBServer) -> str:
    return mariadb_server.create_database()


async def test_p8_a_push_and_an_end_at_one_broker_are_heard_at_the_other(url: str) -> None:
    heard_a, heard_b = Heard(), Heard()
    async with opened(url, heard_a) as a, opened(url, heard_b) as b:
        await meet(a, b)
        await push(a, *(jobs := new_jobs(3)))

        async def ready() -> bool:
            # Told once more if it looks for what it may have missed before it was known.
            return heard_b.ready["q"] >= 3

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
    async with opened(url, heard_a) as a, opened(url, heard_b) as b:
        await meet(a, b)
        await asyncio.to_thread(MariaDB(mariadb_server).end_sessions, url)
        await push(a, new_job())

        async def ready() -> bool:
            return heard_b.ready["q"] > 0

        await until(ready, "b finds the job")


async def test_news_are_forgotten(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "_KEPT", 0.1)
    async with opened(url) as a, opened(url) as b:
        await meet(a, b)

        async def first_is_gone() -> bool:
            await push(a, new_job())
            oldest = await oldest_news(b)
            return oldest is not None and oldest > 1

        await until(first_is_gone, "old news are gone")


async def meet(*drivers: SharedSqlDriver) -> None:
    """Until each knows of the others, and so tells them what it does."""

    async def met() -> bool:
        return all(len(of(driver)._heard) == len(drivers) - 1 for driver in drivers)

    await until(met, "the brokers know of each other")


def of(driver: SharedSqlDriver) -> news.News:
    assert driver._opened is not None
    peers = driver._opened._peers
    assert isinstance(peers, news.News)
    return peers


async def oldest_news(driver: SharedSqlDriver) -> int | None:
    async def read(reader: Reader) -> int | None:
        found: int | None = (await reader.rows("SELECT MIN(serial) FROM towline_news"))[0][0]
        return found

    return await driver._read(read)
