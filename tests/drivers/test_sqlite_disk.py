"""A disk that is full leaves settling to go on; one that fails ends the store."""

import asyncio
import errno
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.drivers.sqlite_support import opened, writer_of, writing_connection
from tests.support.stores import ack, push, reserve
from towline_broker.domain.errors import StoreFailed, StoreFull
from towline_broker.drivers.interface import JobQuery
from towline_broker.drivers.sql.sqlite import wal
from towline_broker.drivers.sql.sqlite.driver import SqliteDriver
from towline_broker.drivers.sql.sqlite.errors import DiskFull
from towline_broker.drivers.sql.sqlite.url import SqliteUrl
from towline_broker.drivers.sql.sqlite.writer import SubmittedAt
from towline_broker.testing.factories import START, new_job, new_jobs
from towline_broker.testing.heard import Heard


async def test_push_is_refused_while_the_disk_has_less_than_the_reserve_free(
    tmp_path: Path,
) -> None:
    free = 1 << 40
    async with opened(tmp_path / "jobs.db", free=lambda _: free) as driver:
        await push(driver, *new_jobs(2))
        free = 1_000
        with pytest.raises(StoreFull) as refused:
            await push(driver, new_job())
        assert refused.value.reason == "DISK_FULL"
        assert "1000 bytes free" in str(refused.value)
        settled = await ack(driver, await reserve(driver, 2))
        assert [one.applied for one in settled] == [True, True]
        free = 1 << 40
        await push(driver, new_job())


async def test_a_push_that_would_leave_less_than_the_reserve_is_refused_and_a_smaller_one_is_not(
    tmp_path: Path,
) -> None:
    driver = SqliteDriver(SqliteUrl(tmp_path / "jobs.db", 1_000_000), lambda _: 1_100_000)
    await driver.open(START, Heard())
    with pytest.raises(StoreFull):
        await push(driver, new_job(envelope=b"x" * 100_000))
    await push(driver, new_job(envelope=b"x" * 10_000))
    await driver.close()


async def test_room_that_settled_jobs_left_in_the_file_is_used_again(tmp_path: Path) -> None:
    driver = SqliteDriver(SqliteUrl(tmp_path / "jobs.db", 1_000_000), lambda _: free)
    free = 1 << 40
    await driver.open(START, Heard())
    await push(driver, *new_jobs(40, envelope=b"x" * 50_000))
    leased = await reserve(driver, 40)
    free = 0
    with pytest.raises(StoreFull):
        await push(driver, new_job())
    await ack(driver, leased)
    await push(driver, new_job())
    await driver.close()


async def test_a_log_that_cannot_grow_begins_anew_for_settling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "jobs.db") as driver:
        await push(driver, *new_jobs(10))
        leased = await reserve(driver, 10)
        writer = writer_of(driver)
        commit, log = writer._commit, writer._checkpoints
        frames = log._frames()

        def commit_into_the_old_log(batch: list[SubmittedAt], full: str | None = None) -> None:
            if log._frames() >= frames and log._checked:
                raise DiskFull
            commit(batch, full)

        log._checked = 1  # reset by a log that begins anew
        monkeypatch.setattr(writer, "_commit", commit_into_the_old_log)
        settled = await ack(driver, leased)
        assert [one.applied for one in settled] == [True] * 10
        assert log._frames() < frames


async def test_settling_works_on_a_full_disk(tmp_path: Path) -> None:
    async with opened(tmp_path / "jobs.db") as driver:
        await push(driver, *new_jobs(200, envelope=b"x" * 1_000))
        leased = await reserve(driver, 100)
        # From here on the database may not grow: SQLite itself reports a full disk.
        (pages,) = writing_connection(driver).execute("PRAGMA page_count").fetchone()
        writing_connection(driver).execute(f"PRAGMA max_page_count = {pages}")
        too_large = new_job(envelope=b"x" * 1_000_000)
        pushing, acking = await asyncio.gather(
            push(driver, too_large), ack(driver, leased), return_exceptions=True
        )
        assert isinstance(pushing, StoreFull)
        assert isinstance(acking, list)
        assert [one.applied for one in acking] == [True] * 100
        assert len(await reserve(driver, 200)) == 100
        assert await driver.get(too_large.id) is None


async def test_a_store_is_closed_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        kept = new_job()
        await push(driver, kept)
        assert driver._opened is not None
        monkeypatch.setattr(driver._opened.store.checkpoints, "make_last", full)
    async with opened(path) as driver:
        assert await driver.get(kept.id) is not None


async def test_an_io_error_ends_the_store(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        kept = new_job()
        await push(driver, kept)
        log = path.with_name("jobs.db-wal").stat().st_size
        with files_no_longer_than(log), pytest.raises(StoreFailed, match="SQLITE_IOERR_WRITE"):
            await push(driver, *new_jobs(100))
        # The disk is well again, but what it did with earlier writes is not known.
        with pytest.raises(StoreFailed):
            await push(driver, new_job())
        with pytest.raises(StoreFailed):
            await driver.get(kept.id)
    async with opened(path) as driver:
        assert [r.id for r in (await driver.list_jobs(JobQuery(10))).records] == [kept.id]


async def test_an_io_error_while_the_log_is_brought_home_ends_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "CHECKPOINT_FRAMES", 1)
    path = tmp_path / "jobs.db"
    first, second = new_jobs(1_000, envelope=b"x" * 1_000), new_jobs(100, envelope=b"x" * 1_000)
    async with opened(path) as driver:
        await push(driver, *first)
        # Answered after the checkpoint behind the push, which leaves the log to be written anew.
        assert await driver.promote(START, 1) == 0
        with files_no_longer_than(path.stat().st_size):
            await push(driver, *second)
            with pytest.raises(StoreFailed, match="SQLITE_IOERR"):
                await driver.promote(START, 1)
    async with opened(path) as driver:
        stored = (await driver.list_jobs(JobQuery(2_000))).records
        assert [record.id for record in stored] == [job.id for job in (*first, *second)]


async def test_an_index_of_the_log_that_cannot_be_read_ends_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: int, size: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with opened(tmp_path / "jobs.db") as driver:
        monkeypatch.setattr(os, "pread", broken)
        with pytest.raises(StoreFailed, match="index of the store's log"):
            await push(driver, new_job())
        with pytest.raises(StoreFailed):
            await reserve(driver, 1)
        monkeypatch.undo()


async def test_a_log_that_had_no_room_to_be_brought_home_is_brought_home_at_the_next_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "CHECKPOINT_FRAMES", 1)
    async with opened(tmp_path / "jobs.db") as driver:
        await push(driver, new_job())
        checkpoints = writer_of(driver)._checkpoints
        make, tried = checkpoints._make, []

        def full_once(mode: str) -> None:
            tried.append(mode)
            if len(tried) == 1:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            make(mode)

        monkeypatch.setattr(checkpoints, "_make", full_once)
        await push(driver, new_job())
        await reserve(driver, 1)
        # Answered after the checkpoint behind the call before.
        await driver.promote(START, 1)
        assert len(tried) >= 2
        assert checkpoints._checked > 0
        monkeypatch.undo()


async def test_the_log_stays_short(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        for _ in range(30):
            await push(driver, *new_jobs(1_000, envelope=b"x" * 1_000))
            leased = await reserve(driver, 1_000)
            await ack(driver, leased)
        largest = 4_096 * wal.INSISTENT_FRAMES
        assert path.with_name("jobs.db-wal").stat().st_size < largest
    assert not path.with_name("jobs.db-wal").exists()


async def test_a_long_look_from_outside_does_not_keep_the_log_growing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "CHECKPOINT_FRAMES", 50)
    monkeypatch.setattr(wal, "INSISTENT_FRAMES", 200)
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await push(driver, new_job())
        backup = long_look(path)
        checkpoints = writer_of(driver)._checkpoints
        async with asyncio.timeout(60):
            while (checked := checkpoints._checked) < 200:
                if checkpoints._frames() - checked < 50:
                    await push(driver, *new_jobs(10, envelope=b"x" * 10_000))
                # Else a checkpoint is about to begin, behind the push that made it due.
                await asyncio.sleep(0)
        # The writer now waits for the look to end, and then begins the log anew.
        backup.close()
        await push(driver, new_job())
        assert checkpoints._frames() < 50


async def test_a_log_that_cannot_begin_anew_is_not_tried_at_every_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "CHECKPOINT_FRAMES", 200)
    path = tmp_path / "jobs.db"
    tried: list[str] = []
    async with opened(path) as driver:
        backup = long_look(path)
        writing_connection(driver).set_trace_callback(tried.append)
        while writer_of(driver)._checkpoints._frames() < 500:
            await push(driver, new_job(envelope=b"x" * 10_000))
        # Answered after the checkpoint behind the last push.
        await driver.promote(START, 1)
        writing_connection(driver).set_trace_callback(None)
        backup.close()
    assert len([sql for sql in tried if "wal_checkpoint" in sql]) == 2


def long_look(path: Path) -> sqlite3.Connection:
    """Another program that reads the store, and keeps what it sees until it is closed."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN")
    connection.execute("SELECT COUNT(*) FROM towline_jobs").fetchone()
    return connection


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Writes of this process beyond the size fail, as on a disk that is broken there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
