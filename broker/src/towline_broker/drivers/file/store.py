"""Opening a store: from a directory to the state that its journal tells, and where it goes on."""

import errno
import gc
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from towline_broker.domain.errors import StoreRefused
from towline_broker.domain.events import event
from towline_broker.domain.time import Micros
from towline_broker.drivers.disk import free_bytes, not_opened
from towline_broker.drivers.file import mark, segments
from towline_broker.drivers.file.compaction import Inventory
from towline_broker.drivers.file.machine import THIS_MACHINE, Lock, Machine, write_whole
from towline_broker.drivers.file.reading import Damaged, Reader, Tail
from towline_broker.drivers.file.restoring import Restoration, Unsound
from towline_broker.drivers.file.room import LEAST_RESERVE, reserve_of
from towline_broker.drivers.file.segments import Frame, Header
from towline_broker.drivers.file.url import FileUrl
from towline_broker.drivers.file.writer import ActiveSegment
from towline_broker.drivers.memory.state import State

log = logging.getLogger("towline.broker")

LOCK = "lock"


@dataclass(slots=True)
class OpenStore:
    lock: Lock
    state: State
    #: The latest time that the store had seen before it was opened.
    clock: Micros
    active: ActiveSegment
    spares: list[tuple[Path, int]]
    inventories: dict[int, Inventory]


def open_store(
    url: FileUrl,
    directory: Path,
    now: Micros,
    free: Callable[[Path], int] = free_bytes,
    machine: Machine = THIS_MACHINE,
) -> OpenStore:
    """Raises StoreRefused, having changed nothing, if the place cannot hold a store of ours, and
    NoRoom if the disk is full."""
    try:
        check_place(directory, machine)
        if not machine.exists(directory):
            machine.make_directory(directory)
        if not segments.numbers_in(directory, machine=machine):
            # Whoever made it may have been killed before its name was durable.
            machine.sync_directory(directory.parent)
        lock = machine.lock(directory, directory / LOCK)
        lock.acquire()
    except OSError as error:
        raise not_opened(directory, error, error.strerror) from error
    try:
        with _no_garbage_collection():
            return _read(url, directory, now, lock, free, machine)
    except BaseException as error:
        lock.release()
        if isinstance(error, OSError):
            raise not_opened(directory, error, error.strerror) from error
        raise


def check_place(directory: Path, machine: Machine = THIS_MACHINE) -> None:
    """Raises StoreRefused unless there is a store of ours, or room for one."""
    if not machine.is_directory(directory.parent):
        raise StoreRefused(
            f"{directory}: there is no directory {directory.parent}; create it, or name another "
            "place"
        )
    if not machine.exists(directory):
        return
    if not machine.is_directory(directory):
        raise StoreRefused(f"{directory} is not a directory; name another place")
    if segments.numbers_in(directory, machine=machine):
        return
    spares = segments.numbers_in(directory, "spare", machine)
    ours = {LOCK, mark.NAME, *(segments.spare_path(directory, number).name for number in spares)}
    foreign = [name for name in machine.names(directory) if name not in ours]
    if foreign:
        raise StoreRefused(
            f"{directory} holds no journal, but {min(foreign)!r}; name an empty directory, or one "
            "that does not exist yet"
        )


def _read(
    url: FileUrl,
    directory: Path,
    now: Micros,
    lock: Lock,
    free: Callable[[Path], int],
    machine: Machine,
) -> OpenStore:
    reader, restoration = Reader(directory, machine), Restoration()
    inventories: dict[int, Inventory] = {}
    last: tuple[Header, Frame] | None = None
    for header, frame, records in reader.records():
        inventory = inventories.setdefault(header.number, Inventory())
        for record in records:
            try:
                restoration.apply(record)
            except Unsound as error:
                path = segments.path_of(directory, header.number)
                what = f"a sound frame holds a record that no release wrote ({error})"
                raise Damaged(path, frame.offset, what) from error
            inventory.add_record(record)
        last = header, frame
    _check_oldest(directory, reader.oldest, restoration.first_segment)
    spares = _spares(machine, url, directory, free, len(inventories))
    active = _active(machine, directory, reader.tail, last, spares)
    # Also of those that hold no frame, for the next record was too large for them: a segment that
    # is passed over stays, and those behind it are given up.
    first = active.header.number if reader.oldest is None else reader.oldest
    for number in range(first, active.header.number + 1):
        inventories.setdefault(number, Inventory())
    state = restoration.finish(max(now, restoration.clock))
    return OpenStore(lock, state, restoration.clock, active, spares, inventories)


def _check_oldest(directory: Path, oldest: int | None, needed: int) -> None:
    if oldest is not None and oldest > max(needed, 1):
        missing = segments.path_of(directory, max(needed, 1))
        raise StoreRefused(f"{missing} is missing: {segments.WAY_OUT}")


def _active(
    machine: Machine,
    directory: Path,
    tail: Tail | None,
    last: tuple[Header, Frame] | None,
    spares: list[tuple[Path, int]],
) -> ActiveSegment:
    if tail is None:
        spare, _ = spares.pop(0)
        file, header = segments.begin(machine, spare, directory, 1, 1, machine.random(8))
        return ActiveSegment(file, header, segments.HEADER_SIZE, 1)
    path = segments.path_of(directory, tail.header.number)
    if tail.torn:
        log.warning(
            "%s: frame %d at offset %d was not finished when the broker ended, and is cut off; "
            "nothing of it was acknowledged",
            *(path, tail.sequence, tail.offset),
            extra=event(
                "journal_tail_cut", file=str(path), frame=tail.sequence, offset=tail.offset
            ),
        )
    file = machine.open(path)
    # A broker that was killed may have written its last frame and not synced it; from here on it
    # counts. If a sync of it had failed, the system takes it for written and would not write it: so
    # it is written once more. The name of the file may not be durable yet, either.
    if last is not None and last[0].number == tail.header.number:
        write_whole(machine, file, last[1].whole, last[1].offset)
    machine.sync(file)
    machine.sync_directory(directory)
    if tail.header.version == segments.VERSION:
        return ActiveSegment(file, tail.header, tail.offset, tail.sequence)
    # What is written from here on an earlier release cannot read, and has to be told so.
    machine.close(file)
    if not spares:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    spare, _ = spares.pop(0)
    number, store = tail.header.number + 1, tail.header.store
    file, header = segments.begin(machine, spare, directory, number, tail.sequence, store)
    return ActiveSegment(file, header, segments.HEADER_SIZE, tail.sequence)


def _spares(
    machine: Machine, url: FileUrl, directory: Path, free: Callable[[Path], int], count: int
) -> list[tuple[Path, int]]:
    """The reserve for so many segments, and one file more. A new store must have them; one that is
    there may have to do with what it has."""
    size, spares = url.segment_bytes, []
    numbers = segments.numbers_in(directory, "spare", machine)
    for number in numbers:
        path = segments.spare_path(directory, number)
        if count and machine.size(path) == size:
            spares.append((path, size))
        else:
            machine.remove(path)
    wanted = reserve_of(count) + 1 if count else LEAST_RESERVE + 1
    next_number = max(numbers, default=0) + 1
    for number in range(next_number, next_number + wanted - len(spares)):
        path = segments.spare_path(directory, number)
        try:
            if free(directory) < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            segments.make_spare(machine, path, size)
        except OSError:
            if count:
                break
            for path, _ in spares:
                machine.remove(path)
            raise
        spares.append((path, size))
    return spares


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """While a million jobs are made, the collector would look at them again and again. What there
    is afterwards is left out of its later runs: it is to stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()
