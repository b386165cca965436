"""P11: on a full disk settling goes on, and the journal does not outgrow what lives in it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drivers.file_support import SEGMENT_BYTES, live, opened, portrait, restored
from tests.support.stores import ack, push, reserve
from tests.support.waiting import until
from towline_broker.domain.errors import NoRoom, StoreFull
from towline_broker.domain.jobs import Failure, Leased, Progress, Settlement
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.file import FileDriver, segments
from towline_broker.drivers.file.compaction import LEAST_SEGMENTS
from towline_broker.drivers.file.machine import Machine, ThisMachine
from towline_broker.drivers.file.room import LEAST_RESERVE, reserve_of
from towline_broker.drivers.file.url import FileUrl
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    ExtendBatch,
    ExtendItem,
    NackBatch,
    NackItem,
    ReserveRequest,
)
from towline_broker.testing.factories import START, new_job, new_jobs
from towline_broker.testing.heard import Heard


def disk_of(segments_in_all: int) -> Callable[[Path], int]:
    """A disk with room for so many segments and nothing else."""

    def free(directory: Path) -> int:
        used = sum(path.stat().st_size for path in directory.glob("*.log"))
        return max(0, segments_in_all * SEGMENT_BYTES - used)

    return free


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a file fails where a disk of twelve segments would be full."""
    make = segments.make_spare
    free = disk_of(12)

    def make_spare(machine: Machine, path: Path, size: int) -> None:
        if free(path.parent) < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        make(machine, path, size)

    monkeypatch.setattr(segments, "make_spare", make_spare)


async def fill(driver: FileDriver, size: int = 1_000) -> int:
    """Pushes until it is refused; returns how many jobs were stored."""
    stored = 0

    async def push_on() -> None:
        nonlocal stored
        while True:
            await push(driver, *new_jobs(10, envelope=b"x" * size))
            stored += 10

    with pytest.raises(StoreFull, match="running jobs can still be settled") as full:
        await push_on()
    assert full.value.reason == "DISK_FULL"
    return stored


@pytest.mark.usefixtures("full_disk")
async def test_p11_every_job_is_settled_on_a_full_disk(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    async with opened(directory, free=disk_of(12)) as driver:
        stored = await fill(driver)
        assert stored > 400
        await settle_all(driver, stored)
        assert live(driver).compaction.given_up > 0
        # The room that they left is there for new jobs.
        await push(driver, *new_jobs(10, envelope=b"x" * 1_000))
        expected = portrait(live(driver).engine.state)
    assert portrait(restored(directory)) == expected


async def settle_all(driver: FileDriver, count: int) -> None:
    """With a heartbeat and a failed attempt for each job before its Ack."""
    failure = Failure("ValueError", "no such customer", "", START)
    for attempt in range(2):
        done = 0
        while done < count:
            now = START + attempt * HOUR
            leased = await reserve(driver, 20, now=now)
            items = [ExtendItem(one.ref, progress=Progress(0.5, "on")) for one in leased]
            await driver.extend(ExtendBatch(items, now))
            if attempt == 0:
                nacks = [
                    NackItem(one.ref, Settlement.RETRIED, START + HOUR, failure=failure)
                    for one in leased
                ]
                await driver.nack(NackBatch(nacks, now, now))
            else:
                await ack(driver, leased, now, window=0)
            await driver.forget(now, 100)
            done += len(leased)
        while await driver.promote(START + HOUR, 100):
            pass


@pytest.mark.usefixtures("full_disk")
async def test_p11_heartbeats_go_on_for_ever_on_a_full_disk(tmp_path: Path) -> None:
    async with opened(tmp_path / "store", free=disk_of(12)) as driver:
        await fill(driver)
        leased = await reserve(driver, 20)
        items = [ExtendItem(one.ref) for one in leased]
        written = 0
        while written < 8 * SEGMENT_BYTES:
            extended = await driver.extend(ExtendBatch(items, START))
            assert all(one.lease_until for one in extended)
            written += 60 * len(items)
        assert [one.applied for one in await ack(driver, leased)] == [True] * 20


@pytest.mark.usefixtures("full_disk")
async def test_p11_a_broker_starts_on_a_full_disk_and_settles(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    async with opened(directory, free=disk_of(12)) as driver:
        await fill(driver)
        leased: list[Leased] = await reserve(driver, 100)
    async with opened(directory, free=disk_of(12)) as driver:
        await fill(driver)
        assert [one.applied for one in await ack(driver, leased)] == [True] * 100


async def test_a_new_store_wants_its_reserve(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    with pytest.raises(NoRoom, match="the disk is full; make room"):
        async with opened(directory, free=disk_of(LEAST_RESERVE)):
            pass
    assert segments.numbers_in(directory) == segments.numbers_in(directory, "spare") == []


async def test_push_is_refused_while_the_journal_could_not_grow_without_taking_the_last_room(
    tmp_path: Path,
) -> None:
    free = 1 << 40
    driver = FileDriver(
        FileUrl(tmp_path / "store", min_free_bytes=1 << 20, segment_bytes=SEGMENT_BYTES),
        lambda _: free,
    )
    await driver.open(START, Heard())
    await push(driver, new_job())
    free = (1 << 20) + SEGMENT_BYTES - 1
    await fill(driver, 10_000)
    free = 1 << 40
    await push(driver, *new_jobs(20, envelope=b"x" * 10_000))
    await driver.close()


async def test_a_record_may_be_larger_than_a_segment(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    job = new_job(envelope=b"x" * (5 * SEGMENT_BYTES))
    async with opened(directory) as driver:
        await push(driver, job)
        (leased,) = await reserve(driver, 1)
        result = b"y" * (5 * SEGMENT_BYTES)
        await driver.ack(AckBatch([AckItem(leased.ref, result)], START, START + HOUR))
        await push(driver, new_job())
    async with opened(directory) as driver:
        record = await driver.get(job.id)
        assert record is not None
        assert record.result == result


async def compacted(driver: FileDriver) -> None:
    compaction = live(driver).compaction

    async def rests() -> bool:
        # In its last round, the file of a segment may still be there.
        return not compaction.wanted and not compaction._round.locked()

    await until(rests, "compaction has nothing to do")


async def test_p11_the_journal_does_not_outgrow_what_lives_in_it(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    async with opened(directory) as driver:
        kept = new_jobs(50, "kept", envelope=b"k" * 1_000)
        await push(driver, *kept)
        for number in range(60):
            now = START + number * SECOND
            await push(driver, *new_jobs(30, envelope=b"x" * 1_000), now=now)
            await ack(driver, await reserve(driver, 30, now=now), now, window=SECOND)
            await driver.forget(now, 1_000)
        await compacted(driver)
        count = LEAST_SEGMENTS + 2
        most = count + reserve_of(count) + 1
        assert len(list(directory.glob("*.log"))) <= most
        assert live(driver).compaction.given_up > 10
        expected = portrait(live(driver).engine.state)
    assert portrait(restored(directory)) == expected
    async with opened(directory) as driver:
        leased = await driver.reserve(ReserveRequest(["kept"], 50, HOUR, "last", START + HOUR))
        assert [one.ref.job_id for one in leased] == [job.id for job in kept]


class WritesByHalves(ThisMachine):
    """Writes less than it is given, as an operating system may."""

    def write(self, file: int, content: bytes | memoryview, offset: int) -> int:
        return os.pwrite(file, content[: max(1, len(content) // 2)], offset)


def test_a_segment_begins_as_a_whole_whatever_a_write_takes(tmp_path: Path) -> None:
    machine, spare = WritesByHalves(), segments.spare_path(tmp_path, 1)
    segments.make_spare(machine, spare, SEGMENT_BYTES)
    file, header = segments.begin(machine, spare, tmp_path, 1, 1, b"x" * 8)
    os.close(file)
    path = segments.path_of(tmp_path, 1)
    assert segments.read_header(path, path.read_bytes()) == header


def test_a_directory_has_room_for_new_names_before_the_disk_is_full(tmp_path: Path) -> None:
    for number in range(segments.FEW_NAMES):
        segments.spare_path(tmp_path, number).touch()
    before = sorted(tmp_path.iterdir())
    made: list[Path] = []

    class Watched(ThisMachine):
        def create(self, path: Path) -> int:
            made.append(path)
            return super().create(path)

    assert segments.widen(Watched(), tmp_path) == 4 * segments.FEW_NAMES
    assert len(made) == 3 * segments.FEW_NAMES
    assert sorted(tmp_path.iterdir()) == before
