"""A store that this broker must not use is refused, and nothing of it is touched."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.drivers.sqlite_support import opened, write
from tests.support import refusals
from tests.support.stores import push
from towline_broker.domain.errors import InvalidField, StoreRefused
from towline_broker.drivers.interface import DeadQuery, JobQuery
from towline_broker.drivers.sql import open_sqlite
from towline_broker.drivers.sql.schema import SCHEMA_VERSION
from towline_broker.testing.factories import START, new_job, new_jobs
from towline_broker.testing.heard import Heard


async def refusal(path: Path) -> str:
    return await refusals.refusal(f"sqlite:///{path}", path.parent)


def change(path: Path, *statements: str) -> None:
    """By another program."""
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("content", [b"x", b"Dear diary\n" * 100, b"SQLite format 3\0"])
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "jobs.db"
    path.write_bytes(content)
    assert await refusal(path) == f"{path} is not a SQLite database; name another file"


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
async def test_the_database_of_another_program_is_refused(
    tmp_path: Path, journal_mode: str
) -> None:
    path = tmp_path / "jobs.db"
    change(path, f"PRAGMA journal_mode = {journal_mode}", "CREATE TABLE customers (name TEXT)")
    assert "is a SQLite database of another program" in await refusal(path)


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path):
        pass
    change(path, "PRAGMA user_version = 99")
    assert await refusal(path) == (
        f"{path} has the newer schema version 99, and this broker knows {SCHEMA_VERSION}; "
        "use the release of Towline that wrote it, or a later one"
    )


async def test_a_newer_schema_that_is_only_in_the_log_is_refused(tmp_path: Path) -> None:
    path, copy = tmp_path / "jobs.db", tmp_path / "copy" / "jobs.db"
    copy.parent.mkdir()
    async with opened(path):
        pass
    later_release = sqlite3.connect(path, isolation_level=None)
    later_release.execute("PRAGMA user_version = 99")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    later_release.close()
    with pytest.raises(StoreRefused, match="newer schema version 99"):
        await open_sqlite(f"sqlite:///{copy}").open(START, Heard())


async def test_a_store_that_only_claims_to_be_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path):
        pass
    change(path, "DELETE FROM towline_meta")
    with pytest.raises(StoreRefused, match="does not hold one"):
        await open_sqlite(f"sqlite:///{path}").open(START, Heard())


async def test_a_store_without_its_tables_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path):
        pass
    change(path, "DROP TABLE towline_meta")
    with pytest.raises(StoreRefused, match="cannot be opened: no such table"):
        await open_sqlite(f"sqlite:///{path}").open(START, Heard())


async def test_the_log_of_a_lost_database_is_not_adopted(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    write(Path(f"{path}-wal"), b"frames of another database")
    assert "jobs.db-wal belongs to a database that is not there" in await refusal(path)


async def test_a_folder_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").mkdir()
    assert "is not a regular file" in await refusal(tmp_path / "jobs.db")


async def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.touch()
    async with opened(path) as driver:
        await push(driver, new_job())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:jobs.db", "is no place for a SQLite store; write sqlite:///relative.db"),
        ("sqlite://jobs.db", "is no place for a SQLite store; write sqlite:///relative.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:///folder/", "names no file"),
        ("sqlite:///:memory:", "names no file; .* or memory: for"),
        ("sqlite:///a.db?journal=off", "'journal' is no option of this store"),
        ("sqlite:///a.db?min_free_bytes=64MB", "'64MB', not a number of bytes"),
        ("sqlite:///a.db?min_free_bytes=-1", "'-1', not a number of bytes"),
        ("sqlite:///a.db?min_free_bytes=", "needs one value"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url: str, why: str) -> None:
    with pytest.raises(StoreRefused, match=why):
        open_sqlite(url)


@pytest.mark.parametrize("cursor", ["9" * 19, "9" * 5_000, "\N{ARABIC-INDIC DIGIT ONE}", "-1"])
async def test_a_cursor_that_no_page_gave_is_refused(cursor: str, tmp_path: Path) -> None:
    async with opened(tmp_path / "jobs.db") as driver:
        with pytest.raises(InvalidField, match="page_token"):
            await driver.list_jobs(JobQuery(9, cursor=cursor))
        with pytest.raises(InvalidField, match="page_token"):
            await driver.list_dead(DeadQuery(9, cursor=f"{cursor}.{cursor}"))


async def test_a_store_that_does_not_hold_together_is_refused_unless_told_not_to_look(
    tmp_path: Path,
) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await push(driver, *new_jobs(20))
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        where = "SELECT rootpage FROM sqlite_master WHERE name = 'towline_jobs'"
        (root,) = connection.execute(where).fetchone()
    content = bytearray(path.read_bytes())
    # How many cells the page has.
    content[(root - 1) * page + 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreRefused, match=r"jobs\.db is damaged: .*\.recover"):
        async with opened(path):
            pass
    assert path.read_bytes() == bytes(content)
    driver = open_sqlite(f"sqlite:///{path}?check=false")
    await driver.open(START, Heard())
    await driver.close()
