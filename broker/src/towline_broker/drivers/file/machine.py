"""What the file store needs of the machine under it: files, one thread, and chance.

Nothing else of this driver touches the operating system, so that a simulated disk can take its
place.
"""

import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from towline_broker.drivers.disk import PRIVATE, PRIVATE_DIRECTORY, sync
from towline_broker.drivers.owning import OwnerLock

T = TypeVar("T")


class Lock(Protocol):
    def acquire(self) -> None:
        """Raises StoreRefused if another broker holds it."""

    def release(self) -> None: ...


class Waiting(Protocol[T]):
    """A queue between the event loop and the thread, first in, first out."""

    def put(self, item: T) -> None: ...

    def get(self) -> T:
        """Waits for an item. Only on the thread."""

    def get_nowait(self) -> T:
        """Raises queue.Empty."""


class Machine(Protocol):
    """Everything that has to do with files raises OSError."""

    # --- names --------------------------------------------------------------------------------

    def exists(self, path: Path) -> bool: ...

    def is_directory(self, path: Path) -> bool: ...

    def names(self, directory: Path) -> list[str]:
        """Of the files in it, in any order."""

    def make_directory(self, path: Path) -> None: ...

    def rename(self, path: Path, to: Path) -> None:
        """Durable once the directory is synced; so is :meth:`remove`."""

    def remove(self, path: Path) -> None: ...

    def sync_directory(self, path: Path) -> None: ...

    # --- content ------------------------------------------------------------------------------

    def read(self, path: Path) -> bytes: ...

    def size(self, path: Path) -> int: ...

    def create(self, path: Path) -> int:
        """Opens it empty, for writing."""

    def open(self, path: Path) -> int:
        """For writing; it exists."""

    def allocate(self, file: int, size: int) -> None:
        """Makes room on the disk for so many bytes from the beginning."""

    def write(self, file: int, content: bytes | memoryview, offset: int) -> int:
        """Returns how many bytes were written: perhaps not all."""

    def sync_data(self, file: int) -> None:
        """Returns when the content is durable."""

    def sync(self, file: int) -> None:
        """Returns when content and size are durable."""

    def close(self, file: int) -> None: ...

    # --- the rest -----------------------------------------------------------------------------

    def lock(self, store: Path, file: Path) -> Lock: ...

    def random(self, count: int) -> bytes: ...

    def waiting(self) -> Waiting[Any]: ...

    def start(self, work: Callable[[], None]) -> Callable[[], None]:
        """Begins the work on a thread that ends with the process; returns what waits for its
        end."""


class ThisMachine:
    """The real one."""

    def exists(self, path: Path) -> bool:
        return path.exists()

    def is_directory(self, path: Path) -> bool:
        return path.is_dir()

    def names(self, directory: Path) -> list[str]:
        return [path.name for path in directory.iterdir()]

    def make_directory(self, path: Path) -> None:
        path.mkdir(mode=PRIVATE_DIRECTORY)

    def rename(self, path: Path, to: Path) -> None:
        path.rename(to)

    def remove(self, path: Path) -> None:
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        sync(path)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def create(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def allocate(self, file: int, size: int) -> None:
        os.posix_fallocate(file, 0, size)

    def write(self, file: int, content: bytes | memoryview, offset: int) -> int:
        return os.pwrite(file, content, offset)

    def sync_data(self, file: int) -> None:
        os.fdatasync(file)

    def sync(self, file: int) -> None:
        os.fsync(file)

    def close(self, file: int) -> None:
        os.close(file)

    def lock(self, store: Path, file: Path) -> OwnerLock:
        return OwnerLock(store, file)

    def random(self, count: int) -> bytes:
        return os.urandom(count)

    def waiting(self) -> "queue.SimpleQueue[Any]":
        return queue.SimpleQueue()

    def start(self, work: Callable[[], None]) -> Callable[[], None]:
        thread = threading.Thread(target=work, name="towline-journal-writer", daemon=True)
        thread.start()
        return thread.join


THIS_MACHINE: Machine = ThisMachine()


def write_whole(machine: Machine, file: int, content: bytes, offset: int) -> None:
    """All of it, in as many writes as it takes."""
    view = memoryview(content)
    while view:
        written = machine.write(file, view, offset)
        view, offset = view[written:], offset + written
