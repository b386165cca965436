"""What was committed last, in a file of its own (see ``drivers/acknowledged.py``), and whether a
store holds it still.

SQLite reads its log up to the first frame whose checksum fails, and takes what lies behind it for
never committed, as it does if the log is gone; and it does not look at how long the file is while
there is a log. Hence three numbers. Every commit raises ``sequence`` in the store, so one that has
less than was acknowledged has lost something. The same log, told by its salt, must have the frames
that it had. And the file does not shrink while there is that log.
"""

import os
import sqlite3
import struct
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.acknowledged import sealed, unsealed
from towline_broker.drivers.disk import PRIVATE

_CONTENT = struct.Struct("<Q8sIQ")
#: Of the header of the log's index, the ``-shm`` file: the number of frames that were committed,
#: and the salt of the log. The rest is passed over.
_INDEX = struct.Struct("=16xI12x8s")
INDEX_SIZE = _INDEX.size


@dataclass(frozen=True, slots=True)
class Log:
    frames: int
    #: Drawn at random whenever the log begins anew.
    salt: bytes


def log_of(index: bytes) -> Log:
    """By the header of its index."""
    return Log(*_INDEX.unpack(index[:INDEX_SIZE]))


def path_of(store: Path) -> Path:
    return Path(f"{store}.acknowledged")


class Mark:
    def __init__(self, store: Path, size: int) -> None:
        """``size``: so many bytes of the file are on the disk."""
        self.size = size
        self._file: int | None = None
        with suppress(OSError):
            self._file = os.open(path_of(store), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)

    def put(self, sequence: int, log: Log) -> None:
        if self._file is not None:
            content = _CONTENT.pack(sequence, log.salt, log.frames, self.size)
            with suppress(OSError):
                os.pwrite(self._file, sealed(content), 0)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)


def is_interrupted(store: Path) -> bool:
    """A change from before the file had a log was cut off. Whoever opens it undoes that first,
    which takes writing; it holds no jobs yet."""
    return Path(f"{store}-journal").exists()


def check(store: Path) -> None:
    """Raises StoreRefused, having changed nothing, if the store has lost what it acknowledged.
    Nobody else may use it meanwhile. Raises sqlite3.Error, OSError."""
    known = path_of(store)
    content = unsealed(known.read_bytes(), _CONTENT.size) if known.exists() else None
    if content is None or not store.exists() or is_interrupted(store):
        return
    acknowledged, salt, frames, size = _CONTENT.unpack(content)
    if acknowledged == 0:
        return
    # Without its mark alone, the log of the lost store would be played into the backup.
    way_out = (
        f"; restore it from a backup (or, if this is one that was put back on purpose, remove what "
        f"the lost store left beside it, {store}-wal, {store}-shm and {known}, and put the backup "
        "there once more)"
    )
    if store.stat().st_size == 0:
        raise StoreRefused(f"{store} is damaged: it is empty, and held jobs{way_out}")
    sequence, log = _found(store)
    if sequence < acknowledged:
        raise StoreRefused(
            f"{store} is damaged: what was committed last is missing (commit {acknowledged}, and "
            f"the last one found is {sequence}); its log {store.name}-wal is damaged or was lost"
            f"{way_out}"
        )
    if log.salt != salt or not _begins_soundly(Path(f"{store}-wal")):
        # It has begun anew since, or was about to: everything had been brought home.
        return
    if log.frames < frames:
        raise StoreRefused(
            f"{store}-wal is damaged at frame {log.frames + 1}: it cannot be read, and {frames} "
            f"frames were committed{way_out}"
        )
    if store.stat().st_size < size:
        raise StoreRefused(
            f"{store} is damaged at offset {store.stat().st_size}: the file was cut short, it had "
            f"{size} bytes{way_out}"
        )


def _begins_soundly(log: Path) -> bool:
    """By the checksum of its header, as SQLite's file format says."""
    with log.open("rb") as file:
        header = file.read(32)
    if len(header) < 32:
        return False
    words = struct.unpack(">6I" if header[3] & 1 else "<6I", header[:24])
    first = second = 0
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return struct.pack(">2I", first, second) == header[24:]


def _found(store: Path) -> tuple[int, Log]:
    """Of a connection that cannot write, so that closing it leaves the log as it is."""
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as connection:
        (sequence,) = connection.execute("SELECT sequence FROM towline_meta").fetchone()
        index = Path(f"{store}-shm")
        log = log_of(index.read_bytes()) if index.exists() else Log(0, b"")
        return int(sequence), log
