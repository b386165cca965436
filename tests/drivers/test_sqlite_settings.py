"""The settings that durability rests on are in force, and hot statements use their indexes."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.drivers.sqlite_support import opened, writing_connection
from tests.support.stores import ack, push, reserve
from towline_broker.domain.jobs import DeadReason, Settlement
from towline_broker.domain.time import HOUR
from towline_broker.drivers.interface import Durability, NackBatch, NackItem
from towline_broker.drivers.sql import acks, claims, queues, settles, targets, upkeep
from towline_broker.drivers.sql.sqlite.connection import NEXT_READY, driver_connection, with_keys
from towline_broker.drivers.sql.sqlite.driver import SqliteDriver
from towline_broker.testing.factories import START, new_jobs


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[SqliteDriver]:
    async with opened(tmp_path / "jobs.db") as driver:
        yield driver


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


async def test_every_commit_is_synced(driver: SqliteDriver) -> None:
    assert driver.capabilities.durability is Durability.DURABLE
    connection = writing_connection(driver)
    assert pragma(connection, "journal_mode") == "wal"
    assert pragma(connection, "synchronous") == 2


async def test_the_connection_that_looks_cannot_write(driver: SqliteDriver) -> None:
    assert driver._opened is not None
    connection = driver_connection(driver._opened.store.reading)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM towline_jobs")


#: Each statement of a hot path, its parameters, and the index that its plan goes by.
PLANS = {
    "reserve": (NEXT_READY.format(claims.CANDIDATE), (1, 100), "towline_jobs_ready (queue=?)"),
    "repeated reserve": (
        claims.OF_REQUEST,
        ("request",),
        "towline_jobs_request (request_id=?)",
    ),
    "head of a line": (
        queues.HEAD_OF_LINE,
        (1, 5),
        "towline_jobs_ready (queue=? AND priority<?)",
    ),
    "ack": (with_keys(acks.HELD, 2), ("a", "b"), "towline_jobs_id (id=?)"),
    "settle": (with_keys(targets.LEASED_BY_ID, 2), ("a", "b"), "towline_jobs_id (id=?)"),
    "settle again": (with_keys(settles.SETTLEMENTS, 2), ("a", "b"), "PRIMARY KEY (job_id=?)"),
    "promote": (upkeep.DUE, (0, START, 100), "towline_jobs_due (available_at>? AND"),
    "expire": (upkeep.TOO_OLD, (0, START, 100), "towline_jobs_expiry (expires_at>? AND"),
    "leases past their deadline": (
        claims.LEASES_PAST,
        (0, START, 100),
        "towline_jobs_deadline (lease_until>? AND",
    ),
    "forget jobs": (upkeep.PAST_RETENTION, (0, START, 100), "towline_jobs_kept (keep_until>? AND"),
    "forget leases": (
        upkeep.PAST_MEMORY,
        (0, START, 100),
        "towline_settled_until (remember_until>? AND",
    ),
    "forget keys": (
        upkeep.PAST_KEYS,
        (0, START, 100),
        "towline_unique_keys_until (held_until>? AND",
    ),
    "purge": (queues.SCHEDULED_OF_QUEUE, (1, 100), "towline_jobs_scheduled (queue=?)"),
    "next scheduled": (upkeep.NEXT_TIMES["due"], (0,), "towline_jobs_due"),
    "next deadline": (upkeep.NEXT_TIMES["leases"], (0,), "towline_jobs_deadline"),
    "next expiry": (upkeep.NEXT_TIMES["expiry"], (0,), "towline_jobs_expiry"),
}


@pytest.fixture(params=["never analyzed", "analyzed"])
async def planner(driver: SqliteDriver, request: pytest.FixtureRequest) -> sqlite3.Connection:
    """Jobs of every state; once with and once without what ANALYZE tells the planner of them."""
    await push(driver, *new_jobs(600, retention=HOUR, expires_at=START + HOUR))
    await push(driver, *new_jobs(300, due_at=START + HOUR))
    await ack(driver, await reserve(driver, 100))
    dying = await reserve(driver, 100)
    nacks = [
        NackItem(one.ref, Settlement.DEAD_LETTERED, dead_reason=DeadReason.REJECTED)
        for one in dying
    ]
    await driver.nack(NackBatch(nacks, START, START + HOUR))
    await reserve(driver, 100)
    connection = writing_connection(driver)
    if request.param == "analyzed":
        connection.execute("ANALYZE")
    return connection


@pytest.mark.parametrize("name", PLANS)
async def test_a_hot_statement_meets_only_what_it_wants(
    planner: sqlite3.Connection, name: str
) -> None:
    sql, parameters, index = PLANS[name]
    rows = planner.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
    plan = [row[3] for row in rows]
    assert index in plan[0]
    assert plan[0].startswith("SEARCH")
    # No sorting, and no skipping from value to value of an index's first column.
    assert not [step for step in plan if "TEMP B-TREE" in step or "ANY(" in step]


async def test_a_settled_job_leaves_nothing_but_its_memory(driver: SqliteDriver) -> None:
    await push(driver, *new_jobs(10))
    await ack(driver, await reserve(driver, 10))
    connection = writing_connection(driver)
    for table, rows in (("jobs", 0), ("envelopes", 0), ("notes", 0), ("settled", 10)):
        assert connection.execute(f"SELECT COUNT(*) FROM towline_{table}").fetchone() == (rows,)
    assert await driver.forget(START + HOUR, 100) == 10
    assert connection.execute("SELECT COUNT(*) FROM towline_settled").fetchone() == (0,)
