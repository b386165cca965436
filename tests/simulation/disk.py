"""A disk behind a page cache. What was not synced is lost with the power: wholly, in part, or torn.

It promises what POSIX does and no more: a sync of a file makes its content and size durable, not
its name; a name is durable once its directory is synced; and of what was not synced any part may
reach the platter, in any order.
"""

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

#: A write is torn at multiples of one of these, in bytes.
_GRAINS = (16, 512, 4096)


def refusal(number: int, path: str = "") -> OSError:
    return OSError(number, os.strerror(number), path)


class Inode:
    """The content of a file: as programs see it, and as it would be without power."""

    __slots__ = ("allocated", "cache", "lost", "pending", "platter")

    def __init__(self) -> None:
        self.cache = bytearray()
        self.platter = bytearray()
        #: Since the last sync: where, and what; a size alone has no bytes.
        self.pending: list[tuple[int, bytes]] = []
        #: Room on the disk that is its own.
        self.allocated = 0

    def write(self, content: bytes, offset: int) -> None:
        self.resize(max(len(self.cache), offset + len(content)))
        self.cache[offset : offset + len(content)] = content
        self.pending.append((offset, content))

    def resize(self, size: int) -> None:
        if size > len(self.cache):
            self.cache.extend(bytes(size - len(self.cache)))
            self.pending.append((size, b""))

    def clear(self) -> None:
        """Truncated, and durably so: nothing here rests on what a truncated file held."""
        self.cache = bytearray()
        self.platter = bytearray()
        self.pending = []
        self.allocated = 0

    def sync(self) -> None:
        for offset, content in self.pending:
            _put(self.platter, offset, content)
        self.pending.clear()

    def forget_to_write(self) -> None:
        """A sync failed: the pages count as clean, and will never be written."""
        self.pending.clear()

    def lose_power(self, rng: Random, share: float) -> None:
        """Of what was not synced, about such a share survives, in pieces of some grain."""
        grain = rng.choice(_GRAINS)
        for offset, content in self.pending:
            if share >= 1 or (not content and rng.random() < share):
                _put(self.platter, offset, content)
                continue
            begin = 0
            while begin < len(content):
                end = min(len(content), (offset + begin) // grain * grain + grain - offset)
                if rng.random() < share:
                    _put(self.platter, offset + begin, content[begin:end])
                begin = end
        self.pending.clear()
        self.cache = bytearray(self.platter)


def _put(content: bytearray, offset: int, part: bytes) -> None:
    end = offset + len(part)
    if end > len(content):
        content.extend(bytes(end - len(content)))
    content[offset:end] = part


@dataclass(frozen=True, slots=True)
class Renaming:
    """A name in a directory was given to a file, or taken away (``inode`` is None). ``old``: the
    name that it had before."""

    name: str
    inode: Inode | None
    old: str = ""


@dataclass(slots=True)
class Directory:
    cache: dict[str, Inode] = field(default_factory=dict)
    platter: dict[str, Inode] = field(default_factory=dict)
    pending: list[Renaming] = field(default_factory=list)

    def change(self, renaming: Renaming) -> None:
        _rename(self.cache, renaming)
        self.pending.append(renaming)

    def sync(self) -> None:
        for renaming in self.pending:
            _rename(self.platter, renaming)
        self.pending.clear()

    def lose_power(self, rng: Random, share: float) -> None:
        for renaming in self.pending:
            if rng.random() < share:
                _rename(self.platter, renaming)
        self.pending.clear()
        self.cache = dict(self.platter)


def _rename(names: dict[str, Inode], renaming: Renaming) -> None:
    if renaming.inode is None:
        names.pop(renaming.name, None)
        return
    if names.get(renaming.old) is renaming.inode:
        del names[renaming.old]
    names[renaming.name] = renaming.inode


class Disk:
    """Everything raises OSError as the calls of the same kind do. ``size`` is in bytes."""

    def __init__(self, size: int = 1 << 40) -> None:
        self.size = size
        self._directories: dict[str, Directory] = {"/": Directory()}
        self._open: dict[int, Inode] = {}
        self._next_file = 3
        #: Directories whose own names are not durable yet.
        self._new: set[Path] = set()
        #: By which processes hold each other off; not on the platter.
        self.locked: set[str] = set()
        #: How many there were so far.
        self.operations = 0

    # --- names --------------------------------------------------------------------------------

    def is_directory(self, path: Path) -> bool:
        return str(path) in self._directories

    def exists(self, path: Path) -> bool:
        return self.is_directory(path) or self._find(path) is not None

    def names(self, path: Path) -> list[str]:
        return sorted(self._directory(path).cache)

    def make_directory(self, path: Path) -> None:
        if self.exists(path):
            raise refusal(errno.EEXIST, str(path))
        self._directories[str(path)] = Directory()
        self._new.add(path)

    def rename(self, path: Path, to: Path) -> None:
        directory = self._directory(path.parent)
        directory.change(Renaming(to.name, self._inode(path), path.name))

    def remove(self, path: Path) -> None:
        self._inode(path)
        self._directory(path.parent).change(Renaming(path.name, None))

    def sync_directory(self, path: Path) -> None:
        self._directory(path).sync()
        self._new = {made for made in self._new if made.parent != path}

    # --- content ------------------------------------------------------------------------------

    def read(self, path: Path) -> bytes:
        return bytes(self._inode(path).cache)

    def size_of(self, path: Path) -> int:
        return len(self._inode(path).cache)

    def create(self, path: Path) -> int:
        inode = self._find(path)
        if inode is None:
            inode = Inode()
            self._directory(path.parent).change(Renaming(path.name, inode))
        else:
            inode.clear()
        return self._opened(inode)

    def open(self, path: Path) -> int:
        return self._opened(self._inode(path))

    def close(self, file: int) -> None:
        del self._open[file]

    def allocate(self, file: int, size: int) -> None:
        inode = self._open[file]
        if size - inode.allocated > self.free:
            raise refusal(errno.ENOSPC)
        inode.allocated = max(inode.allocated, size)
        inode.resize(size)

    def write(self, file: int, content: bytes, offset: int) -> None:
        inode = self._open[file]
        end = offset + len(content)
        if end - inode.allocated > self.free:
            raise refusal(errno.ENOSPC)
        inode.allocated = max(inode.allocated, end)
        inode.write(content, offset)

    def sync(self, file: int) -> None:
        self._open[file].sync()

    def fail_to_sync(self, file: int) -> None:
        self._open[file].forget_to_write()

    @property
    def free(self) -> int:
        inodes = {
            id(inode): inode for d in self._directories.values() for inode in d.cache.values()
        }
        return self.size - sum(inode.allocated for inode in inodes.values())

    # --- ends ---------------------------------------------------------------------------------

    def close_all(self) -> None:
        """The process is gone; what it wrote is in the cache still."""
        self._open.clear()
        self.locked.clear()

    def lose_power(self, rng: Random, share: float | None = None) -> None:
        """What is durable stays, and of the rest about such a share; None: as chance has it."""
        self.close_all()

        def survives(*shares: float) -> float:
            return rng.choice(shares) if share is None else share

        for path in sorted(self._new):
            if rng.random() >= survives(0.5):
                del self._directories[str(path)]
        self._new.clear()
        for directory in self._directories.values():
            every = {id(inode): inode for inode in directory.cache.values()}
            every |= {id(inode): inode for inode in directory.platter.values()}
            for inode in every.values():
                inode.lose_power(rng, survives(0.0, 0.5, 0.9, 1.0))
            directory.lose_power(rng, survives(0.0, 0.5, 1.0))

    # --- ---

    def _directory(self, path: Path) -> Directory:
        directory = self._directories.get(str(path))
        if directory is None:
            raise refusal(errno.ENOENT, str(path))
        return directory

    def _find(self, path: Path) -> Inode | None:
        directory = self._directories.get(str(path.parent))
        return None if directory is None else directory.cache.get(path.name)

    def _inode(self, path: Path) -> Inode:
        inode = self._find(path)
        if inode is None:
            raise refusal(errno.ENOENT, str(path))
        return inode

    def _opened(self, inode: Inode) -> int:
        file = self._next_file
        self._next_file += 1
        self._open[file] = inode
        return file
