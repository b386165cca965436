"""The simulated disk keeps what it has to and forgets the rest: what POSIX promises, no more."""

import errno
from pathlib import Path
from random import Random

import pytest

from tests.simulation.disk import Disk

A, B = Path("/a"), Path("/b")
ROOT = Path("/")


def written(disk: Disk, path: Path, content: bytes) -> int:
    file = disk.create(path)
    disk.write(file, content, 0)
    return file


def durable(disk: Disk, path: Path, content: bytes) -> int:
    file = written(disk, path, content)
    disk.sync(file)
    disk.sync_directory(path.parent)
    return file


def test_what_was_synced_is_there_after_a_loss_of_power() -> None:
    disk = Disk()
    durable(disk, A, b"kept")
    disk.lose_power(Random(1), share=0.0)
    assert disk.read(A) == b"kept"


def test_exactly_what_was_not_synced_is_forgotten() -> None:
    disk = Disk()
    file = durable(disk, A, b"0123456789")
    disk.write(file, b"xx", 4)
    assert disk.read(A) == b"0123xx6789"
    disk.lose_power(Random(1), share=0.0)
    assert disk.read(A) == b"0123456789"


def test_a_file_whose_directory_was_not_synced_has_no_name() -> None:
    disk = Disk()
    disk.sync(written(disk, A, b"synced"))
    disk.lose_power(Random(1), share=0.0)
    assert not disk.exists(A)


def test_a_name_whose_file_was_not_synced_has_no_content() -> None:
    disk = Disk()
    written(disk, A, b"lost")
    disk.sync_directory(ROOT)
    disk.lose_power(Random(1), share=0.0)
    assert disk.read(A) == b""


def test_a_rename_is_undone_unless_the_directory_was_synced() -> None:
    disk = Disk()
    durable(disk, A, b"a")
    disk.rename(A, B)
    assert disk.names(ROOT) == ["b"]
    disk.lose_power(Random(1), share=0.0)
    assert disk.names(ROOT) == ["a"]
    disk.rename(A, B)
    disk.sync_directory(ROOT)
    disk.lose_power(Random(1), share=0.0)
    assert disk.names(ROOT) == ["b"]


def test_a_removed_file_comes_back_unless_the_directory_was_synced() -> None:
    disk = Disk()
    durable(disk, A, b"a")
    disk.remove(A)
    disk.lose_power(Random(1), share=0.0)
    assert disk.read(A) == b"a"


def test_a_new_directory_is_lost_unless_its_parent_was_synced() -> None:
    disk = Disk()
    disk.make_directory(A)
    disk.lose_power(Random(1), share=0.0)
    assert not disk.exists(A)
    disk.make_directory(A)
    disk.sync_directory(ROOT)
    disk.lose_power(Random(1), share=0.0)
    assert disk.is_directory(A)


def test_the_end_of_a_process_loses_nothing_and_makes_nothing_durable() -> None:
    disk = Disk()
    file = durable(disk, A, b"old")
    disk.write(file, b"new", 0)
    disk.close_all()
    assert disk.read(A) == b"new"
    disk.lose_power(Random(1), share=0.0)
    assert disk.read(A) == b"old"


def test_a_write_is_torn_in_any_way() -> None:
    seen = set()
    for seed in range(300):
        disk = Disk()
        file = durable(disk, A, b"o" * 64)
        disk.write(file, b"n" * 64, 0)
        disk.lose_power(Random(seed))
        seen.add(disk.read(A))
    assert {b"o" * 64, b"n" * 64} < seen
    assert b"o" * 16 + b"n" * 48 in seen, "a later part may be there without an earlier one"
    assert all(set(content) <= set(b"on") and len(content) == 64 for content in seen)


def test_writes_reach_the_platter_in_any_order() -> None:
    seen = set()
    for seed in range(100):
        disk = Disk()
        file = durable(disk, A, b"..")
        disk.write(file, b"1", 0)
        disk.write(file, b"2", 1)
        disk.lose_power(Random(seed))
        seen.add(disk.read(A))
    assert seen == {b"..", b"1.", b".2", b"12"}


def test_after_a_failed_sync_what_it_should_have_written_is_never_written() -> None:
    disk = Disk()
    file = durable(disk, A, b"old")
    disk.write(file, b"new", 0)
    disk.fail_to_sync(file)
    disk.sync(file)
    assert disk.read(A) == b"new"
    disk.lose_power(Random(1), share=1.0)
    assert disk.read(A) == b"old"


def test_the_same_seed_loses_the_same() -> None:
    def left(seed: int) -> bytes:
        disk = Disk()
        file = durable(disk, A, bytes(4096))
        disk.write(file, b"x" * 4096, 0)
        disk.lose_power(Random(seed))
        return disk.read(A)

    assert [left(seed) for seed in range(20)] == [left(seed) for seed in range(20)]


def test_a_full_disk_says_so_and_what_was_allocated_can_be_written() -> None:
    disk = Disk(size=100)
    file = disk.create(A)
    disk.allocate(file, 80)
    disk.write(file, bytes(80), 0)
    other = disk.create(B)
    with pytest.raises(OSError, match="No space left") as full:
        disk.allocate(other, 21)
    assert full.value.errno == errno.ENOSPC
    disk.remove(A)
    disk.allocate(other, 100)
