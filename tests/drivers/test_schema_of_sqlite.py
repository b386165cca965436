"""A SQLite store of an earlier release: refused as it is, brought up to date when told to."""

import sqlite3
from pathlib import Path

import pytest

from tests.drivers.sqlite_support import names_in
from towline_broker.domain.errors import StoreRefused
from towline_broker.domain.jobs import JobState, LeaseRef
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    DeadQuery,
    ReserveRequest,
)
from towline_broker.drivers.sql import open_sqlite
from towline_broker.drivers.sql.schema import SCHEMA_VERSION
from towline_broker.testing.factories import START
from towline_broker.testing.heard import Heard

SECOND = 1_000_000


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((Path(__file__).parent / "store_of_version_1.sql").read_text())
    connection.close()
    return path


def content(path: Path) -> bytes:
    return path.read_bytes()


async def test_an_older_store_is_refused_with_the_way_out_and_not_touched(old: Path) -> None:
    before = content(old)
    with pytest.raises(StoreRefused) as refused:
        await open_sqlite(f"sqlite:///{old}").open(START, Heard())
    assert str(refused.value) == (
        f"{old} has schema version 1, and this broker needs {SCHEMA_VERSION}: stop the brokers "
        "that use it, then run `towline-broker schema upgrade --store URL`, or add ?upgrade=true "
        "to its url"
    )
    assert content(old) == before
    assert names_in(old.parent) == ["jobs.db"]


async def test_an_older_store_is_brought_up_to_date_with_all_that_is_in_it(old: Path) -> None:
    driver = open_sqlite(f"sqlite:///{old}?upgrade=true")
    heard = Heard()
    await driver.open(START + SECOND, heard)
    try:
        (dead,) = (await driver.list_dead(DeadQuery(9))).records
        assert dead.failure is not None
        assert dead.failure.message == "no"
        kept = await driver.get("report")
        assert kept is not None
        assert (kept.state, kept.result) == (JobState.SUCCEEDED, b"kept")
        leased = await driver.reserve(
            ReserveRequest(["emails"], 9, 30 * SECOND, "new", START + SECOND)
        )
        # By priority, then in the order of the pushes.
        assert [one.ref.job_id for one in leased] == ["job-4", "job-0", "job-3"]
        (settled,) = await driver.ack(
            AckBatch([AckItem(LeaseRef("emails", "job-1", "grant"))], START, START + SECOND)
        )
        assert settled.applied
        await driver.seal("emails", "elsewhere")
    finally:
        await driver.close()
    # From here on it needs no word.
    again = open_sqlite(f"sqlite:///{old}")
    await again.open(START + SECOND, Heard())
    assert [queue.moving_to for queue in await again.queues()] == ["elsewhere", ""]
    await again.close()


async def test_an_upgrade_that_stands_in_the_log_only_is_seen(old: Path) -> None:
    """The broker was killed after it had upgraded, before the log came home."""
    later = sqlite3.connect(old, isolation_level=None)
    later.execute("PRAGMA journal_mode = WAL")
    later.execute("PRAGMA wal_autocheckpoint = 0")
    header = content(old)[:100]
    later.execute("PRAGMA user_version = 99")
    try:
        assert content(old)[:100] == header
        with pytest.raises(StoreRefused, match="newer schema version 99"):
            await open_sqlite(f"sqlite:///{old}").open(START, Heard())
    finally:
        later.close()


@pytest.mark.parametrize("value", ["yes", "1", "True"])
def test_the_option_is_true_or_false(value: str) -> None:
    with pytest.raises(StoreRefused, match=f"upgrade is '{value}', not true or false"):
        open_sqlite(f"sqlite:///jobs.db?upgrade={value}")
