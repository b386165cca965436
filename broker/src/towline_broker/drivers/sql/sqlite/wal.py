"""Bringing what is in the write-ahead log into the file, before the log grows long.

SQLite's automatic checkpoints swallow their errors, so the writer makes them itself and meets a
failing sync. How long the log is stands in the header of its index, the ``-shm`` file (a documented
format, in the byte order of the machine): the frames in the log at byte 16, those that a checkpoint
has brought home at byte 96.
"""

import struct
from pathlib import Path

import sqlalchemy as sa

from towline_broker.drivers.sql.sqlite.connection import driver_connection

#: Frames of 4 KiB in the log from which on it is worth a checkpoint.
CHECKPOINT_FRAMES = 4_000
#: Here readers have kept checkpoints from finishing for long enough: wait for them.
INSISTENT_FRAMES = 4 * CHECKPOINT_FRAMES


class Checkpoints:
    def __init__(self, connection: sa.Connection, store: Path) -> None:
        self._sqlite = driver_connection(connection)
        self._index = Path(f"{store}-shm").open("rb", buffering=0)  # noqa: SIM115 - held open

    def make_if_due(self) -> None:
        length, home = self._frames()
        if length >= INSISTENT_FRAMES:
            self._sqlite.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        elif length - home >= CHECKPOINT_FRAMES:
            self._sqlite.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def make_last(self) -> None:
        """Brings everything home and empties the log."""
        self._sqlite.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self._index.close()

    def _frames(self) -> tuple[int, int]:
        self._index.seek(0)
        header = self._index.read(100)
        return struct.unpack_from("=I", header, 16)[0], struct.unpack_from("=I", header, 96)[0]
