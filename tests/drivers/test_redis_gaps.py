"""Redis: what became ready while a broker heard nothing is told of, whatever it takes (P8)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from tests.core.manual_clock import come_to_rest
from tests.drivers.redis_link_support import own_keys
from tests.support.servers.redis import RedisServer
from tests.support.waiting import until
from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.jobs import Counts
from towline_broker.drivers.interface import PushBatch
from towline_broker.drivers.redis import RedisDriver, open_redis, scripts
from towline_broker.drivers.redis.link.interface import Argument, Link, Script
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
    counts, away = driver._counts_in, True

    async def unless_away(partition: int) -> list[Counts]:
        if away:
            raise StoreUnavailable("away")
        return await counts(partition)

    monkeypatch.setattr(driver, "_counts_in", unless_away)
    driver._on_gap()
    await asyncio.sleep(0)
    away = False

    async def told() -> bool:
        return heard.ready["q"] == 3

    await until(told, "the jobs are told of", 10)


async def test_p8_a_gap_that_follows_while_the_one_before_is_made_up_for_is_made_up_for(
    driver: RedisDriver, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, read, go_on = driver._counts_in, asyncio.Event(), asyncio.Event()

    async def slowly(partition: int) -> list[Counts]:
        found = await counts(partition)
        read.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(driver, "_counts_in", slowly)
    driver._on_gap()
    await read.wait()
    await driver.push(PushBatch(new_jobs(2, "later"), START))
    heard.take()  # as if it had not been heard
    driver._on_gap()
    go_on.set()

    async def told() -> bool:
        return heard.ready["later"] == 2

    await until(told, "the later jobs are told of", 10)


class PartsAway:
    """A link to three partitions with a job in each, of which some cannot be reached or hang."""

    partitions = 3

    def __init__(self) -> None:
        self.away: set[int] = set()
        self.hanging: set[int] = set()

    async def run(self, script: Script, partition: int, args: Sequence[Argument] = ()) -> Any:
        assert script is scripts.COUNTS
        if partition in self.away:
            raise StoreUnavailable(f"{partition} is away")
        if partition in self.hanging:
            await asyncio.Event().wait()
        return [[f"q{partition}|T|ready".encode(), b"1"], []]

    async def close(self) -> None: ...


async def test_p8_a_partition_that_is_away_keeps_no_jobs_of_the_others_untold(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "towline.broker")
    link = PartsAway()
    driver = RedisDriver(cast(Link, link))
    driver._news.listener = heard
    link.away.add(1)
    driver._on_gap()
    await come_to_rest()
    assert heard.take() == ({"q0": 1, "q2": 1}, [])
    driver._on_gap()  # the others again, and all the same
    await come_to_rest()
    assert heard.take() == ({"q0": 1, "q2": 1}, [])
    link.away.clear()

    async def told() -> bool:
        return heard.ready["q1"] == 1

    await until(told, "the third is told of", 10)
    await asyncio.sleep(0)
    assert heard.take() == ({"q1": 1}, [])
    begun, over = [record.getMessage() for record in caplog.records]
    assert begun.endswith("jobs that became ready meanwhile are not told of yet: 1 is away")
    assert "jobs that became ready meanwhile have been told of, after " in over
    await driver.close()


async def test_p8_a_partition_that_hangs_keeps_no_jobs_of_the_others_untold(heard: Heard) -> None:
    link = PartsAway()
    driver = RedisDriver(cast(Link, link))
    driver._news.listener = heard
    link.hanging.add(0)
    driver._on_gap()
    await come_to_rest()
    assert heard.take() == ({"q1": 1, "q2": 1}, [])
    driver._on_gap()
    await come_to_rest()
    assert heard.take() == ({"q1": 1, "q2": 1}, [])
    await driver.close()
