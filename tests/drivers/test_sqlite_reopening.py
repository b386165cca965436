"""A store that is opened again goes on where it was."""

from pathlib import Path

import pytest

from tests.drivers.sqlite_support import names_in, opened, write
from tests.support.stores import LEASE, push, reserve
from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import SECOND
from towline_broker.drivers.disk import sync
from towline_broker.drivers.interface import JobQuery
from towline_broker.drivers.sql import open_sqlite
from towline_broker.drivers.sql.sqlite import store as store_module
from towline_broker.drivers.sql.sqlite.offline import prepare
from towline_broker.testing.factories import START, new_job
from towline_broker.testing.heard import Heard


async def test_a_reopened_store_goes_on_from_its_latest_time(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await push(driver, new_job(), now=START + 90 * SECOND)
    driver = open_sqlite(f"sqlite:///{path}")
    # The machine's clock was set back meanwhile.
    assert await driver.open(START - 5 * SECOND, Heard()) == START + 90 * SECOND
    await driver.close()


async def test_live_leases_begin_their_term_anew(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await push(driver, new_job())
        (leased,) = await reserve(driver, 1)
        assert leased.lease_until == START + LEASE
    reopened_at = START + 100 * SECOND
    async with opened(path, now=reopened_at) as driver:
        (record,) = await driver.leases([leased.ref])
        assert record is not None
        assert record.lease_until == reopened_at + LEASE
        assert await driver.expired_leases(reopened_at + LEASE - 1, 10) == []
        (job,) = (await driver.list_jobs(JobQuery(10))).records
        assert job.state is JobState.LEASED


async def test_a_clock_that_was_set_back_shortens_no_lease(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await push(driver, new_job())
        (leased,) = await reserve(driver, 1)
        await push(driver, new_job(), now=START + 20 * SECOND)
    async with opened(path, now=START - 60 * SECOND) as driver:
        (record,) = await driver.leases([leased.ref])
        assert record is not None
        assert record.lease_until == START + 20 * SECOND + LEASE


async def test_an_opened_store_tells_of_jobs_that_are_ready(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await push(driver, new_job("a"), new_job("a"), new_job("b"))
    driver, heard = open_sqlite(f"sqlite:///{path}"), Heard()
    await driver.open(START, heard)
    assert heard.take() == ({"a": 2, "b": 1}, [])
    await driver.close()


async def test_a_store_left_half_made_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    write(Path(f"{path}.creating"), b"the machine stopped here")
    async with opened(path) as driver:
        await push(driver, new_job())
    assert names_in(tmp_path) == ["jobs.db", "jobs.db.acknowledged", "jobs.db.lock"]


async def test_a_store_that_was_killed_before_it_had_a_log_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    prepare(path)
    # SQLite takes it for a change to be undone.
    write(Path(f"{path}-journal"), b"x" * 1_024)
    async with opened(path) as driver:
        await push(driver, new_job())
    assert "jobs.db-journal" not in names_in(tmp_path)


async def test_p1_names_that_a_killed_broker_left_are_made_durable_before_anything_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have ended between making a file and the sync of its directory. SQLite itself syncs
    the directory of a log only where it has made the log."""
    path = tmp_path / "jobs.db"
    async with opened(path):
        pass
    synced: list[tuple[Path, bool]] = []

    def noting(place: Path) -> None:
        synced.append((place, Path(f"{path}-wal").exists()))
        sync(place)

    monkeypatch.setattr(store_module, "sync", noting)
    async with opened(path) as driver:
        assert (tmp_path, True) in synced
        await push(driver, new_job())
