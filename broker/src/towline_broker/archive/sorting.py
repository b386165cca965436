"""Lines in the order of their keys, however many there are: what does not fit into a bounded part
of memory goes through temporary files."""

import heapq
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

#: Bytes of lines that are held in memory.
MOST_HELD = 32 * 1024 * 1024
#: About what a line and its key take beside their bytes.
_OVERHEAD = 200
_LENGTHS = struct.Struct("<II")

Entry = tuple[bytes, bytes]


class Sorter:
    """Takes lines with their keys, and then gives them in order. A context manager: at its end the
    temporary files are gone."""

    def __init__(self, folder: Path | None = None, most_held: int = MOST_HELD) -> None:
        """``folder``: where temporary files go; None: where the system has them."""
        self._folder = folder
        self._most_held = most_held
        self._held: list[Entry] = []
        self._size = 0
        self._runs: list[IO[bytes]] = []
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()

    def add(self, key: bytes, line: bytes) -> None:
        """Raises OSError."""
        self._held.append((key, line))
        self._size += len(key) + len(line) + _OVERHEAD
        if self._size >= self._most_held:
            self._put_down()

    def in_order(self) -> Iterator[Entry]:
        """Raises OSError."""
        self._held.sort()
        yield from heapq.merge(*map(_read, self._runs), self._held)

    def _put_down(self) -> None:
        self._held.sort()
        unnamed = tempfile.TemporaryFile(  # noqa: SIM115 - closed with the others, at the end
            prefix="towline-export-", dir=self._folder
        )
        run = self._files.enter_context(unnamed)
        for key, line in self._held:
            run.write(_LENGTHS.pack(len(key), len(line)))
            run.write(key)
            run.write(line)
        self._runs.append(run)
        self._held, self._size = [], 0


def _read(run: IO[bytes]) -> Iterator[Entry]:
    run.seek(0)
    while lengths := run.read(_LENGTHS.size):
        key, line = _LENGTHS.unpack(lengths)
        yield run.read(key), run.read(line)
