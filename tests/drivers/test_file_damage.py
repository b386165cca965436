"""A journal that is damaged is never taken for a sound one.

What may be cut off is one unfinished frame at the very end, for nothing of it was acknowledged.
Whether it was, the file ``acknowledged`` tells.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.file_support import SEGMENT_BYTES, live, opened, portrait, restored
from tests.support.stores import ack, push, reserve
from towline_broker.domain.errors import StoreRefused
from towline_broker.domain.jobs import Failure, Settlement
from towline_broker.domain.time import HOUR
from towline_broker.drivers.file import mark, segments
from towline_broker.drivers.file.machine import THIS_MACHINE
from towline_broker.drivers.file.mark import Mark
from towline_broker.drivers.file.reading import Damaged, Reader
from towline_broker.drivers.interface import NackBatch, NackItem
from towline_broker.testing.factories import START, new_job, new_jobs


async def fill(directory: Path) -> None:
    """Two segments, with jobs of several states. The broker does not close the store."""
    async with opened(directory) as driver:
        await push(driver, *new_jobs(2, unique_key="k"), new_job(due_at=START + HOUR))
        await push(driver, new_job("other", retention=HOUR))
        leased = await reserve(driver, 1)
        await ack(driver, leased)
        # The rest of the segment is too small for the next record.
        live(driver).journal.room._left = 0
        await push(driver, new_job(), new_job(priority=5))
        (one,) = await reserve(driver, 1)
        failure = Failure("ValueError", "no", "", START)
        nack = NackItem(one.ref, Settlement.RETRIED, START + 9, failure=failure)
        await driver.nack(NackBatch([nack], START, START + HOUR))
        left = journal_of(directory)
    # Without what closing has added.
    for path, content in left.items():
        path.write_bytes(content)


def journal_of(directory: Path) -> dict[Path, bytes]:
    paths = [*directory.glob("journal-*.log"), directory / mark.NAME]
    return {path: path.read_bytes() for path in paths}


def before_the_last_answer(store: Path) -> None:
    """As if the broker had ended while it wrote the last frame."""
    *_, (_, frame) = Reader(store).frames()
    Mark(THIS_MACHINE, store).put(frame.sequence - 1)


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    await fill(directory)
    assert segments.numbers_in(directory) == [1, 2]
    return directory


@pytest.fixture
def states(store: Path) -> list[bytes]:
    """As they were acknowledged one after the other."""
    frames = list(Reader(store).frames())
    return [portrait(restored(store, count)) for count in range(len(frames) + 1)]


def last_frame(store: Path) -> range:
    """Where it is in the last segment."""
    *_, (_, frame) = Reader(store).frames()
    return range(frame.offset, frame.end)


def used(store: Path) -> dict[int, int]:
    """Up to where each segment is used."""
    return {header.number: frame.end for header, frame in Reader(store).frames()}


def flipped_bits(path: Path, end: int) -> Iterator[int]:
    """Flips every bit before ``end``, one at a time, and tells the offset of each."""
    with path.open("r+b", buffering=0) as file:
        content = file.read(end)
        for offset, byte in enumerate(content):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), offset)
                yield offset
            os.pwrite(file.fileno(), bytes([byte]), offset)


@pytest.mark.parametrize("number", [1, 2])
def test_a_flipped_bit_is_refused(store: Path, states: list[bytes], number: int) -> None:
    path, end = segments.path_of(store, number), used(store)[number]
    refused = 0
    for offset in flipped_bits(path, end + 8):
        try:
            state = portrait(restored(store))
        except StoreRefused:
            refused += 1
        else:
            assert state == states[-1], f"bit at {offset} of segment {number}"
            assert offset >= end
    assert refused > 2_000


def test_a_flipped_bit_in_a_frame_that_was_not_answered_is_cut_off_with_it(
    store: Path, states: list[bytes]
) -> None:
    before_the_last_answer(store)
    last = last_frame(store)
    for offset in flipped_bits(segments.path_of(store, 2), last.stop):
        if offset in last:
            assert portrait(restored(store)) == states[-2]


def test_a_damaged_mark_says_nothing(store: Path, states: list[bytes]) -> None:
    path = store / mark.NAME
    for _ in flipped_bits(path, path.stat().st_size):
        assert mark.read(THIS_MACHINE, store) == 0
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert mark.read(THIS_MACHINE, store) == 0
    assert portrait(restored(store)) == states[-1]


@pytest.mark.parametrize("number", [1, 2])
def test_a_segment_that_was_cut_short_is_refused(store: Path, number: int) -> None:
    path = segments.path_of(store, number)
    content = path.read_bytes()
    for length in (*range(used(store)[number] + 3), SEGMENT_BYTES - 1):
        path.write_bytes(content[:length])
        with pytest.raises(StoreRefused):
            restored(store)


def test_a_frame_that_was_not_finished_is_cut_off(store: Path, states: list[bytes]) -> None:
    """Of any length, with what a disk may show in place of the rest."""
    before_the_last_answer(store)
    path = segments.path_of(store, 2)
    content = path.read_bytes()
    last = last_frame(store)
    for end in last:
        for rest in (b"\0", b"\xff", b"TWLF"):
            missing = (rest * len(last))[: last.stop - end]
            path.write_bytes(content[:end] + missing + content[last.stop :])
            if content[end : last.stop] != missing:
                assert portrait(restored(store)) == states[-2]


def test_pages_of_the_last_frame_that_are_missing_are_no_damage(
    store: Path, states: list[bytes]
) -> None:
    before_the_last_answer(store)
    path = segments.path_of(store, 2)
    content = path.read_bytes()
    last = last_frame(store)
    for hole in range(last.start, last.stop - 16, 16):
        path.write_bytes(content[:hole] + bytes(16) + content[hole + 16 :])
        assert portrait(restored(store)) in (states[-2], states[-1])


async def test_a_store_goes_on_behind_what_was_cut_off(store: Path) -> None:
    before_the_last_answer(store)
    path = segments.path_of(store, 2)
    content = path.read_bytes()
    middle = last_frame(store)[len(last_frame(store)) // 2]
    path.write_bytes(content[:middle] + bytes(SEGMENT_BYTES - middle))
    job = new_job()
    async with opened(store) as driver:
        await push(driver, job)
    async with opened(store) as driver:
        assert await driver.get(job.id) is not None


async def test_damage_is_refused_and_named_with_the_way_out(store: Path) -> None:
    path = segments.path_of(store, 2)
    content = bytearray(path.read_bytes())
    content[segments.HEADER_SIZE + segments.FRAME_SIZE + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged) as refused:
        async with opened(store):
            pass
    assert str(refused.value).startswith(
        f"{path} is damaged at offset {segments.HEADER_SIZE}: frame 5 cannot be read, and frame 6 "
        "follows; restore the directory from a backup"
    )
    assert "towline-broker journal check" in str(refused.value)
    assert path.read_bytes() == bytes(content)


@pytest.mark.parametrize("number", [1, 2])
def test_a_missing_segment_is_noticed(store: Path, number: int) -> None:
    segments.path_of(store, 3).write_bytes(segments.path_of(store, 2).read_bytes())
    segments.path_of(store, number).unlink()
    with pytest.raises(StoreRefused, match=r"is missing|under another name"):
        restored(store)


def test_the_last_segment_may_not_be_missing(store: Path) -> None:
    segments.path_of(store, 2).unlink()
    with pytest.raises(Damaged, match="frame 5 cannot be read, and had been acknowledged"):
        restored(store)


def test_the_whole_journal_may_not_be_missing(store: Path) -> None:
    for number in (1, 2):
        segments.path_of(store, number).unlink()
    with pytest.raises(
        StoreRefused, match=r"all that followed it cannot be read.*remove that file"
    ):
        restored(store)


async def test_the_oldest_segment_may_not_be_missing(store: Path) -> None:
    segments.path_of(store, 1).unlink()
    with pytest.raises(StoreRefused, match=r"journal-0000000001.log is missing"):
        async with opened(store):
            pass


async def test_a_segment_of_another_store_is_refused(store: Path, tmp_path: Path) -> None:
    await fill(tmp_path / "other")
    segments.path_of(tmp_path / "other", 2).replace(segments.path_of(store, 2))
    with pytest.raises(StoreRefused, match="belongs to another store"):
        restored(store)


async def test_a_producer_cannot_make_damage_appear(tmp_path: Path) -> None:
    """What a payload holds is never taken for a frame."""
    store = tmp_path / "store"
    await fill(store)
    forged = segments.path_of(store, 2).read_bytes()[: used(store)[2]]
    async with opened(store) as driver:
        await push(driver, new_job(envelope=forged * 3))
        left = segments.path_of(store, 2).read_bytes()
    *_, (_, frame) = [pair for pair in Reader(store).frames() if len(pair[1].body) > len(forged)]
    # The frame with the payload was cut off in its last bytes.
    cut = left[: frame.end - 1] + bytes(SEGMENT_BYTES - frame.end + 1)
    segments.path_of(store, 2).write_bytes(cut)
    Mark(THIS_MACHINE, store).put(frame.sequence - 1)
    assert len(restored(store).jobs) == 4
