"""The machine under a broker: its disk, with the faults that a plan asks for, and its threads."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.simulation.disk import Disk, refusal
from tests.simulation.loop import Loop, Process
from tests.simulation.threads import Waiting, current
from towline_broker.domain.errors import StoreRefused


class Gone(BaseException):
    """Code of a process that has ended wants something of its machine: it gets nothing."""


@dataclass(slots=True)
class DiskFaults:
    """What goes wrong, by the number of the operation since the disk was made."""

    #: The first sync, write or allocation with this number or a later one fails with this errno.
    fail_at: dict[int, int] = field(default_factory=dict)
    #: Share of the writes that write only a part.
    short_writes: float = 0.0


class Machine:
    """Implements what the file store needs. Each operation takes a while on a thread, in which
    anything else may happen; on the event loop it happens at once."""

    def __init__(
        self,
        loop: Loop,
        disk: Disk,
        process: Process,
        faults: DiskFaults,
        rng: Random,
        pace: float,
        reached: Callable[[int], None],
    ) -> None:
        """``pace``: about how long an operation takes, in seconds. ``reached`` is called before
        each operation with its number."""
        self._loop = loop
        self._disk = disk
        self._process = process
        self._faults = faults
        self._rng = rng
        self._pace = pace
        self._reached = reached

    def _operate(self, kind: str) -> None:
        """Raises OSError if this is to go wrong."""
        self._live()
        self._disk.operations += 1
        number = self._disk.operations
        self._reached(number)
        thread = current()
        if thread is not None:
            thread.pause(self._pace * self._rng.expovariate(1.0))
        self._live()
        if kind in ("sync", "write", "allocate") and self._faults.fail_at:
            first = min(self._faults.fail_at)
            if number >= first:
                raise refusal(self._faults.fail_at.pop(first))

    def _live(self) -> None:
        if not self._process.alive:
            thread = current()
            if thread is not None:
                thread.wait()  # for ever
            raise Gone

    # --- names --------------------------------------------------------------------------------

    def exists(self, path: Path) -> bool:
        return self._disk.exists(path)

    def is_directory(self, path: Path) -> bool:
        return self._disk.is_directory(path)

    def names(self, directory: Path) -> list[str]:
        return self._disk.names(directory)

    def make_directory(self, path: Path) -> None:
        self._operate("name")
        self._disk.make_directory(path)

    def rename(self, path: Path, to: Path) -> None:
        self._operate("name")
        self._disk.rename(path, to)

    def remove(self, path: Path) -> None:
        self._operate("name")
        self._disk.remove(path)

    def sync_directory(self, path: Path) -> None:
        self._operate("sync")
        self._disk.sync_directory(path)

    # --- content ------------------------------------------------------------------------------

    def read(self, path: Path) -> bytes:
        self._live()
        return self._disk.read(path)

    def size(self, path: Path) -> int:
        return self._disk.size_of(path)

    def create(self, path: Path) -> int:
        self._operate("name")
        return self._disk.create(path)

    def open(self, path: Path) -> int:
        self._live()
        return self._disk.open(path)

    def allocate(self, file: int, size: int) -> None:
        self._operate("allocate")
        self._disk.allocate(file, size)

    def write(self, file: int, content: bytes | memoryview, offset: int) -> int:
        self._operate("write")
        whole = bytes(content)
        if len(whole) > 1 and self._rng.random() < self._faults.short_writes:
            whole = whole[: self._rng.randrange(1, len(whole))]
        self._disk.write(file, whole, offset)
        return len(whole)

    def sync_data(self, file: int) -> None:
        self.sync(file)

    def sync(self, file: int) -> None:
        try:
            self._operate("sync")
        except OSError:
            self._disk.fail_to_sync(file)
            raise
        self._disk.sync(file)

    def close(self, file: int) -> None:
        self._live()
        self._disk.close(file)

    # --- the rest -----------------------------------------------------------------------------

    def lock(self, store: Path, file: Path) -> "Lock":
        return Lock(self._disk, store)

    def random(self, count: int) -> bytes:
        return self._rng.randbytes(count)

    def waiting(self) -> Waiting:
        return Waiting(self._loop)

    def start(self, work: Callable[[], None]) -> Callable[[], None]:
        return self._loop.start_thread(work).join


class Lock:
    """Of one owner; the end of its process gives it up."""

    def __init__(self, disk: Disk, store: Path) -> None:
        self._disk = disk
        self._store = str(store)

    def acquire(self) -> None:
        if self._store in self._disk.locked:
            raise StoreRefused(f"{self._store} is in use by another broker")
        self._disk.locked.add(self._store)

    def release(self) -> None:
        self._disk.locked.discard(self._store)


#: What the disk may fail with.
ERRORS = (errno.EIO, errno.ENOSPC, errno.EROFS)
