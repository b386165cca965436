"""Leases that were just granted are settled from memory, which never knows better than the file."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.drivers.sqlite_support import opened, writer_of, writing_connection
from tests.support.stores import ack, push, reserve, stored_ids
from towline_broker.domain.jobs import Progress
from towline_broker.drivers.interface import ExtendBatch, ExtendItem, ReserveRequest
from towline_broker.drivers.sql import acks, claims
from towline_broker.drivers.sql.sqlite.driver import SqliteDriver
from towline_broker.drivers.sql.sqlite.held import HeldLeases
from towline_broker.drivers.sql.transaction import Row, Transaction
from towline_broker.testing.factories import START, new_jobs


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[SqliteDriver]:
    async with opened(tmp_path / "jobs.db") as driver:
        yield driver


async def test_what_was_just_leased_is_not_read_to_be_acknowledged(driver: SqliteDriver) -> None:
    await push(driver, *new_jobs(3))
    leased = await reserve(driver, 3)
    asked: list[str] = []
    writing_connection(driver).set_trace_callback(asked.append)
    assert all(settled.applied for settled in await ack(driver, leased[:2]))
    assert not [sql for sql in asked if sql.startswith(acks.HELD[:30])]
    # What is not in memory is read.
    writer_of(driver)._held.clear()
    assert [settled.applied for settled in await ack(driver, leased)] == [False, False, True]
    assert [sql for sql in asked if sql.startswith(acks.HELD[:30])]
    assert await stored_ids(driver) == []


async def test_what_a_heartbeat_notes_goes_with_the_job(driver: SqliteDriver) -> None:
    await push(driver, *new_jobs(1))
    (one,) = await reserve(driver, 1)
    await driver.extend(ExtendBatch([ExtendItem(one.ref, progress=Progress(0.5))], START))
    (settled,) = await ack(driver, [one])
    assert settled.applied
    (left,) = writing_connection(driver).execute("SELECT COUNT(*) FROM towline_notes").fetchone()
    assert left == 0


async def test_a_lease_that_was_rolled_back_is_not_held(driver: SqliteDriver) -> None:
    await push(driver, *new_jobs(2))

    async def fails_late(transaction: Transaction) -> None:
        await claims.reserve(transaction, ReserveRequest(["q"], 2, 60, "grant", START))
        raise ArithmeticError("a bug")

    with pytest.raises(ArithmeticError):
        await writer_of(driver).submit(fails_late)
    assert len(writer_of(driver)._held) == 0
    assert len(await reserve(driver, 2)) == 2


async def test_memory_that_is_wrong_is_found_out(driver: SqliteDriver) -> None:
    """It never is; should it be, the answer is right nevertheless."""
    await push(driver, *new_jobs(2))
    leased = await reserve(driver, 2)
    held = writer_of(driver)._held
    job_id, grant, kind, _, *rest = held._rows[leased[0].ref.job_id]
    held.put([(job_id, grant, kind, 4_711, *rest)])
    assert [settled.applied for settled in await ack(driver, leased)] == [True, True]
    assert await stored_ids(driver) == []
    assert [counts.totals.completed for counts in await driver.counts()] == [2]


def test_what_is_held_is_bounded() -> None:
    held = HeldLeases(most=10)
    rows: list[Row] = [(str(number), "grant") for number in range(25)]
    for begin in range(0, 25, 5):
        held.put(rows[begin : begin + 5])
        assert len(held) <= 10
    found, missing = held.take(["24", "0"])
    assert (found, missing) == ([rows[24]], ["0"])
    held.put(rows)
    assert len(held) == 10
