"""Calls that wait together share a sync, and no answer shows what a crash could undo."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.file_support import live, new_driver, opened
from tests.support.stores import ack, push, reserve
from towline_broker.domain.errors import StoreFailed
from towline_broker.drivers.file import FileDriver
from towline_broker.drivers.file import journal as journal_module
from towline_broker.drivers.file import writer as writer_module
from towline_broker.drivers.file.machine import Machine
from towline_broker.drivers.interface import JobQuery, PushOutcome
from towline_broker.testing.factories import START, new_job, new_jobs
from towline_broker.testing.heard import Heard


class Disk:
    """Holds the writer's thread before a sync, as a slow disk does, or fails it."""

    def __init__(self) -> None:
        self.error: OSError | None = None
        self.reached = threading.Event()
        self._go_on = threading.Event()
        self._go_on.set()
        self._write = writer_module.synced_write

    def hold(self) -> None:
        self.reached.clear()
        self._go_on.clear()

    def let_go(self) -> None:
        self._go_on.set()

    async def holds(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 30)

    def write(self, machine: Machine, file: int, content: bytes, offset: int) -> None:
        self.reached.set()
        assert self._go_on.wait(30)
        if self.error is not None:
            raise self.error
        self._write(machine, file, content, offset)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(writer_module, "synced_write", disk.write)
    return disk


@pytest.fixture
async def driver(tmp_path: Path, disk: Disk) -> AsyncIterator[FileDriver]:
    async with opened(tmp_path / "store") as driver:
        yield driver
        disk.let_go()


async def test_calls_that_wait_share_one_sync(driver: FileDriver, disk: Disk) -> None:
    disk.hold()
    first = asyncio.create_task(push(driver, new_job()))
    await disk.holds()
    others = [asyncio.create_task(push(driver, new_job())) for _ in range(20)]
    await asyncio.sleep(0)
    before = live(driver).journal._writer.frames
    disk.let_go()
    await asyncio.gather(first, *others)
    # That which was held, and that of the twenty.
    assert live(driver).journal._writer.frames == before + 2


async def test_a_lone_call_does_not_wait_for_company(driver: FileDriver) -> None:
    before = live(driver).journal._writer.frames
    for _ in range(3):
        await push(driver, new_job())
    assert live(driver).journal._writer.frames == before + 3


async def test_p1_nothing_is_answered_or_told_before_it_is_durable(
    tmp_path: Path, disk: Disk
) -> None:
    driver, heard = new_driver(tmp_path / "store"), Heard()
    await driver.open(START, heard)
    job = new_job()
    disk.hold()
    calls = [
        asyncio.create_task(push(driver, job)),
        # Each of these would show what may yet be undone.
        asyncio.create_task(push(driver, job)),
        asyncio.create_task(driver.get(job.id)),
        asyncio.create_task(driver.counts()),
        asyncio.create_task(driver.list_jobs(JobQuery(10))),
        asyncio.create_task(reserve(driver, 1)),
    ]
    await disk.holds()
    done, _ = await asyncio.wait(calls, timeout=0.05)
    assert not done
    assert heard.take() == ({}, [])
    disk.let_go()
    answers: list[Any] = await asyncio.gather(*calls)
    assert answers[1][0].outcome is PushOutcome.EXISTING
    assert answers[2] is not None
    assert heard.take() == ({"q": 1}, [])
    await driver.close()


async def test_who_waits_hears_of_a_push_before_it_is_durable_and_its_claim_is_answered_behind_it(
    tmp_path: Path, disk: Disk
) -> None:
    driver, heard = new_driver(tmp_path / "store"), Heard()
    await driver.open(START, heard)
    disk.hold()
    pushing = asyncio.create_task(push(driver, *new_jobs(2), new_job(due_at=START + 1)))
    await heard.until_coming("q", 2)
    assert heard.coming == {"q": 2}
    reserving = asyncio.create_task(reserve(driver, 3))
    await disk.holds()
    done, _ = await asyncio.wait([pushing, reserving], timeout=0.05)
    assert not done
    disk.let_go()
    assert len(await reserving) == 2
    assert pushing.done()
    assert heard.take() == ({"q": 2}, [])
    await driver.close()


async def test_a_look_at_what_is_durable_waits_for_nothing(driver: FileDriver, disk: Disk) -> None:
    job = new_job()
    await push(driver, job)
    disk.hold()
    assert await driver.get(job.id) is not None


async def test_p11_callers_are_held_back_while_the_disk_does_not_keep_up(
    driver: FileDriver, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MOST_BEHIND", 5_000)
    disk.hold()
    jobs = new_jobs(20, envelope=b"x" * 1_000)
    calls = [asyncio.create_task(push(driver, job)) for job in jobs]
    await disk.holds()
    await asyncio.sleep(0.05)
    assert len(live(driver).engine.state.jobs) < 10
    disk.let_go()
    await asyncio.gather(*calls)
    stored = [record.id for record in (await driver.list_jobs(JobQuery(100))).records]
    # Each in its turn.
    assert stored == [job.id for job in jobs]


async def test_a_failed_sync_ends_the_store_and_nothing_is_acknowledged(
    tmp_path: Path, disk: Disk
) -> None:
    directory = tmp_path / "store"
    kept, lost = new_job(), new_job()
    driver, heard = new_driver(directory), Heard()
    await driver.open(START, heard)
    await push(driver, kept)
    heard.take()
    disk.hold()
    disk.error = OSError(5, "Input/output error")
    calls = [
        asyncio.create_task(push(driver, lost)),
        asyncio.create_task(driver.get(lost.id)),
        asyncio.create_task(ack(driver, [])),
    ]
    await disk.holds()
    disk.let_go()
    for result in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(result, StoreFailed)
        assert "journal-0000000001.log" in str(result)
    assert heard.take() == ({}, [])
    # The disk is well again, but what it did with earlier writes is not known.
    disk.error = None
    with pytest.raises(StoreFailed):
        await push(driver, new_job())
    with pytest.raises(StoreFailed):
        await driver.get(kept.id)
    await driver.close()
    async with opened(directory) as driver:
        assert [one.id for one in (await driver.list_jobs(JobQuery(9))).records] == [kept.id]


async def test_a_file_that_cannot_be_made_the_next_segment_ends_the_store(
    driver: FileDriver,
) -> None:
    live(driver).journal.room._left = 0
    spare, _ = live(driver).journal.room._spares[0]
    spare.unlink()
    with pytest.raises(StoreFailed, match="No such file"):
        await push(driver, new_job())
    with pytest.raises(StoreFailed):
        await driver.counts()
