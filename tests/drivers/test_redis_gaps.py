"""Redis: what became ready while a broker heard nothing is told of, whatever it takes (P8)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.drivers.redis_link_support import own_keys
from tests.support.servers.redis import RedisServer
from tests.support.waiting import until
from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.jobs import Counts
from towline_broker.drivers.interface import PushBatch
from towline_broker.drivers.redis import RedisDriver, open_redis
from towline_broker.testing.factories import START, new_jobs
from towline_broker.testing.heard import Heard


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def driver(redis_server: RedisServer, heard: Heard) -> AsyncIterator[RedisDriver]:
    driver = open_redis(own_keys(redis_server.url))
    await driver.open(START, heard)
    await driver.push(PushBatch(new_jobs(3), START))
    heard.take()
    yield driver
    await driver.close()


async def test_p8_jobs_are_told_of_once_a_server_that_is_away_returns(
    driver: RedisDriver, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, away = driver.counts, True

    async def unless_away() -> list[Counts]:
        if away:
            raise StoreUnavailable("away")
        return await counts()

    monkeypatch.setattr(driver, "counts", unless_away)
    driver._on_gap()
    await asyncio.sleep(0)
    away = False

    async def told() -> bool:
        return heard.ready["q"] == 3

    await until(told, "the jobs are told of", 10)


async def test_p8_a_gap_that_follows_while_the_one_before_is_made_up_for_is_made_up_for(
    driver: RedisDriver, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, read, go_on = driver.counts, asyncio.Event(), asyncio.Event()

    async def slowly() -> list[Counts]:
        found = await counts()
        read.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(driver, "counts", slowly)
    driver._on_gap()
    await read.wait()
    await driver.push(PushBatch(new_jobs(2, "later"), START))
    heard.take()  # as if it had not been heard
    driver._on_gap()
    go_on.set()

    async def told() -> bool:
        return heard.ready["later"] == 2

    await until(told, "the later jobs are told of", 10)
