"""Bringing what is in the write-ahead log into the file, before the log grows long.

SQLite's automatic checkpoints swallow their errors, so the writer makes them itself and meets a
failing sync. Once a checkpoint has brought everything home and nobody reads from the log, SQLite
writes it anew from its beginning. The file does not shrink by that, so how long the log is has to
be read from the header of its index, the ``-shm`` file: the number of frames, a documented field,
stands at byte 16 in the byte order of the machine, and the salt of the log at byte 32.
"""

import os
import sqlite3
from pathlib import Path

import sqlalchemy as sa

from towline_broker.domain.errors import StoreFailed
from towline_broker.drivers.sql.sqlite.connection import driver_connection
from towline_broker.drivers.sql.sqlite.mark import INDEX_SIZE, Log, Mark, log_of

#: A checkpoint is due whenever the log has grown by so many frames of 4 KiB.
CHECKPOINT_FRAMES = 4_000
#: From here on readers have kept the log from beginning anew for long enough: wait for them.
INSISTENT_FRAMES = 4 * CHECKPOINT_FRAMES


class Checkpoints:
    def __init__(self, connection: sa.Connection, store: Path, mark: Mark) -> None:
        """``mark`` is told how long the file is whenever all of it is on the disk."""
        self._store = store
        self._mark = mark
        self._sqlite = driver_connection(connection)
        self._index = os.open(f"{store}-shm", os.O_RDONLY | os.O_CLOEXEC)
        # How long the log was at the checkpoint before.
        self._checked = 0

    def make_if_due(self) -> None:
        length = self._frames()
        if length < self._checked:
            self._checked = 0
        if length - self._checked >= CHECKPOINT_FRAMES:
            before, self._checked = self._checked, length
            try:
                self._make("PASSIVE" if length < INSISTENT_FRAMES else "RESTART")
            except sqlite3.Error:
                # If it was for want of room, it is made again at the next commit.
                self._checked = before
                raise

    def make_room(self) -> None:
        """Brings everything home, so that the log begins anew in the room that it has."""
        self._make("RESTART")
        self._checked = 0

    def make_last(self) -> None:
        """Brings everything home and empties the log."""
        self._make("TRUNCATE")

    def close(self) -> None:
        """Only once every connection is closed: closing a file drops this process's locks on it."""
        os.close(self._index)

    def log(self) -> Log:
        """Raises StoreFailed."""
        try:
            return log_of(os.pread(self._index, INDEX_SIZE, 0))
        except OSError as error:
            raise StoreFailed(f"the index of the store's log cannot be read: {error}") from error

    def _make(self, mode: str) -> None:
        busy, frames, home = self._sqlite.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        if not busy and frames == home:
            self._mark.size = self._store.stat().st_size

    def _frames(self) -> int:
        return self.log().frames
