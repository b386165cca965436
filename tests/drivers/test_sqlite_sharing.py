"""Calls that wait together are committed together, and each keeps its own fate."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.drivers.sqlite_support import opened, writer_of, writing_connection
from tests.support.stores import ack, push, reserve
from towline_broker.domain.errors import QueueFull, StoreUnavailable
from towline_broker.drivers.interface import JobQuery, PushBatch
from towline_broker.drivers.sql import pushes
from towline_broker.drivers.sql.sqlite.driver import SqliteDriver
from towline_broker.drivers.sql.sqlite.url import parse
from towline_broker.drivers.sql.sqlite.writer import MOST_ITEMS, MOST_OPERATIONS
from towline_broker.drivers.sql.transaction import Transaction
from towline_broker.testing.factories import START, new_job, new_jobs
from towline_broker.testing.heard import Heard


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[SqliteDriver]:
    async with opened(tmp_path / "jobs.db") as driver:
        yield driver


class Held:
    """Holds the writer's thread, so that what is called meanwhile waits together."""

    def __init__(self, driver: SqliteDriver) -> None:
        self._driver = driver
        self._begun, self._end = threading.Event(), threading.Event()

    async def __aenter__(self) -> None:
        self._holding = asyncio.create_task(writer_of(self._driver).submit(self._hold))
        assert await asyncio.to_thread(self._begun.wait, 30)
        self.before = writer_of(self._driver).transactions

    async def __aexit__(self, *_: object) -> None:
        # The tasks of the test run up to their submission.
        await asyncio.sleep(0)
        self._end.set()
        await self._holding

    async def _hold(self, _: Transaction) -> None:
        self._begun.set()
        self._end.wait(30)


async def test_calls_that_wait_share_one_transaction(driver: SqliteDriver) -> None:
    async with Held(driver):
        before = writer_of(driver).transactions
        calls = [asyncio.create_task(push(driver, new_job())) for _ in range(20)]
    await asyncio.gather(*calls)
    # Also with that which held the thread: they have come while it was played.
    assert writer_of(driver).transactions == before + 1
    assert len((await driver.list_jobs(JobQuery(100))).records) == 20


@pytest.mark.parametrize(
    ("calls", "jobs_each"), [(MOST_OPERATIONS + 1, 1), (MOST_ITEMS // 500 + 1, 500)]
)
async def test_a_transaction_is_bounded(driver: SqliteDriver, calls: int, jobs_each: int) -> None:
    async with Held(driver):
        before = writer_of(driver).transactions
        tasks = [asyncio.create_task(push(driver, *new_jobs(jobs_each))) for _ in range(calls)]
    await asyncio.gather(*tasks)
    assert writer_of(driver).transactions == before + 2


async def test_one_that_fails_leaves_nothing_and_harms_no_other(driver: SqliteDriver) -> None:
    first, second, none, full = new_job(), new_job(), new_job("new"), new_job("full")

    async def fails_late(transaction: Transaction) -> None:
        await pushes.push(transaction, PushBatch([none], START))
        raise ArithmeticError("a bug")

    async with Held(driver):
        tasks = [
            asyncio.create_task(push(driver, first)),
            asyncio.create_task(writer_of(driver).submit(fails_late)),
            asyncio.create_task(driver.push(PushBatch([full], START, max_depth={"full": 0}))),
            asyncio.create_task(push(driver, second)),
        ]
    _, bug, too_deep, _ = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(bug, ArithmeticError)
    assert isinstance(too_deep, QueueFull)
    stored = [record.id for record in (await driver.list_jobs(JobQuery(10))).records]
    assert stored == [first.id, second.id]
    assert [queue.name for queue in await driver.queues()] == ["q"]
    assert [counts.totals.pushed for counts in await driver.counts()] == [2]
    # What the failed one had made and named is made anew.
    await push(driver, none)
    assert [queue.name for queue in await driver.queues()] == ["new", "q"]


async def test_calls_in_one_transaction_see_each_other(driver: SqliteDriver) -> None:
    async with Held(driver):
        pushing = asyncio.create_task(push(driver, *new_jobs(3)))
        await asyncio.sleep(0)
        reserving = asyncio.create_task(reserve(driver, 2))
    assert len(await pushing) == 3
    settled = await ack(driver, await reserving)
    assert [one.applied for one in settled] == [True, True]


async def test_who_waits_hears_of_a_push_before_its_commit_and_shares_it(
    tmp_path: Path,
) -> None:
    driver, heard = SqliteDriver(parse(f"sqlite:///{tmp_path / 'jobs.db'}")), Heard()
    await driver.open(START, heard)
    async with Held(driver):
        before = writer_of(driver).transactions
        delayed = new_job(due_at=START + 1)
        pushing = asyncio.create_task(push(driver, *new_jobs(2), delayed))
        await heard.until_coming("q", 2)
        assert heard.coming == {"q": 2}
        reserving = asyncio.create_task(reserve(driver, 3))
        assert heard.take() == ({}, [])
    assert len(await reserving) == 2
    await pushing
    assert heard.take() == ({"q": 2}, [])
    assert writer_of(driver).transactions == before + 1
    await driver.close()


async def test_looking_does_not_wait_for_the_writer(driver: SqliteDriver) -> None:
    job = new_job()
    await push(driver, job)
    async with Held(driver):
        record = await asyncio.wait_for(driver.get(job.id), 10)
    assert record is not None


async def test_a_database_locked_by_another_program_is_unavailable(driver: SqliteDriver) -> None:
    path = driver._path
    writing_connection(driver).execute("PRAGMA busy_timeout = 20")
    intruder = sqlite3.connect(path, isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another program has locked"):
        await push(driver, new_job())
    intruder.execute("ROLLBACK")
    intruder.close()
    await push(driver, new_job())
