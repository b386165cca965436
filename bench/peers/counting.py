"""Counting jobs over all processes of a worker, for next to nothing.

A file that every process maps: each has a number in it, at a place of its own.
"""

import itertools
import mmap
import os
import struct
from pathlib import Path

PLACE_VARIABLE = "BENCH_COUNTS"
PLACES = 65_536
_NUMBER = struct.Struct("Q")


def make(path: Path) -> None:
    path.write_bytes(bytes(PLACES * _NUMBER.size))


class Counts:
    """The sum over all processes."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def total(self) -> int:
        return sum(memoryview(self._map).cast("Q"))

    def clear(self) -> None:
        self._map[:] = bytes(len(self._map))


class _Own:
    def __init__(self) -> None:
        with Path(os.environ[PLACE_VARIABLE]).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._pid = -1

    def hit(self) -> None:
        if self._pid != os.getpid():
            self._begin()
        _NUMBER.pack_into(self._map, self._offset, next(self._numbers))

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._offset = self._pid % PLACES * _NUMBER.size
        (so_far,) = _NUMBER.unpack_from(self._map, self._offset)
        self._numbers = itertools.count(so_far + 1)


hit = _Own().hit if PLACE_VARIABLE in os.environ else lambda: None
"""To be called by each job. A few hundred nanoseconds."""
