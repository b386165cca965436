"""What every store owes that lies in files of one broker: it survives that broker's death, and lets
no second one in."""

import asyncio
import errno
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.refusals import refusal
from tests.support.store_processes import BATCH, held_by_another_process, killed_while_pushing
from tests.support.stores import open_store, push, stored_ids
from towline_broker.domain.errors import NoRoom, StoreRefused, StoreUnavailable
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.factories import START, new_job, new_jobs
from towline_broker.testing.heard import Heard

#: Small segments, so that the journal goes from one to the next.
URLS = {"file": "file:///{}?segment_bytes=65536&min_free_bytes=0", "sqlite": "sqlite:///{}"}


@dataclass(frozen=True)
class Kind:
    name: str

    def url(self, path: Path) -> str:
        return URLS[self.name].format(path)


@pytest.fixture(params=URLS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of the store: a directory or a file."""
    return tmp_path / "store"


@pytest.fixture
def url(kind: Kind, path: Path) -> str:
    return kind.url(path)


async def test_p1_every_push_that_returned_survives_a_kill(url: str) -> None:
    confirmed: set[str] = set()
    for _ in range(3):
        confirmed |= killed_while_pushing(url)
        async with open_store(create_driver(url)) as driver:
            stored = await stored_ids(driver)
            assert confirmed <= set(stored)
            # Each push was whole or not there at all.
            assert len(stored) % BATCH == 0
            (counts,) = await driver.counts()
            assert counts.depth.ready == counts.totals.pushed == len(stored)


async def test_nobody_else_on_the_machine_can_read_what_is_in_it(url: str, path: Path) -> None:
    before = os.umask(0o022)
    try:
        async with open_store(create_driver(url)) as driver:
            for _ in range(4):
                await push(driver, *new_jobs(20, envelope=b"x" * 2_000))
            modes = {each.name: each.stat().st_mode & 0o077 for each in path.parent.rglob("*")}
    finally:
        os.umask(before)
    assert len(modes) >= 3
    assert not any(modes.values()), modes


async def test_a_store_of_another_process_is_refused_and_named(
    url: str, path: Path, tmp_path: Path
) -> None:
    with held_by_another_process(url) as pid:
        assert await refusal(url, tmp_path) == (
            f"{path} is in use by another broker (process {pid}); stop that one, or give this "
            "broker a store of its own"
        )
    async with open_store(create_driver(url)) as driver:
        await push(driver, new_job())


async def test_a_store_is_opened_once_in_a_process_too(
    kind: Kind, url: str, path: Path, tmp_path: Path
) -> None:
    other_name = tmp_path / "link"
    other_name.symlink_to(path)
    async with open_store(create_driver(url)):
        assert "in use by another broker" in await refusal(url, tmp_path)
        assert "in use by another broker" in await refusal(kind.url(other_name), tmp_path)


async def test_a_missing_folder_is_named(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "no" / "such" / "store"
    with pytest.raises(StoreRefused, match=f"there is no directory {path.parent}; create it"):
        await create_driver(kind.url(path)).open(START, Heard())
    assert not (tmp_path / "no").exists()


async def test_a_store_on_a_full_disk_is_not_refused_but_opened_once_there_is_room(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    job = new_job()
    async with open_store(create_driver(url)) as driver:
        await push(driver, job)
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", no_room)
        with pytest.raises(NoRoom, match=f"{path} cannot be opened: the disk is full; make room"):
            await create_driver(url).open(START, Heard())
    async with open_store(create_driver(url)) as driver:
        assert await stored_ids(driver) == [job.id]


async def test_a_database_that_gives_no_other_reason_is_asked_for_the_room_on_its_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Path) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    url = URLS["sqlite"].format(path)
    async with open_store(create_driver(url)):
        pass
    monkeypatch.setattr("towline_broker.drivers.sql.sqlite.mark.check", fails)
    with pytest.raises(StoreRefused, match="disk I/O error"):
        await create_driver(url).open(START, Heard())
    monkeypatch.setattr("towline_broker.drivers.disk.free_bytes", lambda _: 4_096)
    with pytest.raises(NoRoom):
        await create_driver(url).open(START, Heard())


async def test_closing_finishes_what_is_under_way(url: str) -> None:
    jobs = new_jobs(5)
    async with open_store(create_driver(url)) as driver:
        calls = [asyncio.create_task(push(driver, job)) for job in jobs]
        await asyncio.sleep(0)
        await driver.close()
        await asyncio.gather(*calls)
    async with open_store(create_driver(url)) as driver:
        assert await stored_ids(driver) == [job.id for job in jobs]


async def test_a_closed_store_is_unavailable(url: str) -> None:
    async with open_store(create_driver(url)) as driver:
        pass
    with pytest.raises(StoreUnavailable, match="not open"):
        await push(driver, new_job())
    with pytest.raises(StoreUnavailable, match="not open"):
        await driver.counts()
