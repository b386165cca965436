"""Opening a store: from a path to connections that a broker may use."""

import logging
import sqlite3
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from towline_broker.domain.errors import StoreRefused
from towline_broker.domain.events import event
from towline_broker.domain.time import Micros
from towline_broker.drivers.disk import not_opened, sync
from towline_broker.drivers.owning import OwnerLock
from towline_broker.drivers.sql import versions
from towline_broker.drivers.sql.names import Names
from towline_broker.drivers.sql.sqlite import file, mark
from towline_broker.drivers.sql.sqlite.connection import SqliteReader, SqliteTransaction, connect
from towline_broker.drivers.sql.sqlite.errors import DiskFull, translated
from towline_broker.drivers.sql.sqlite.held import HeldLeases
from towline_broker.drivers.sql.sqlite.mark import Mark
from towline_broker.drivers.sql.sqlite.offline import connected
from towline_broker.drivers.sql.sqlite.wal import Checkpoints
from towline_broker.drivers.sql.transaction import Reader, Row, run

log = logging.getLogger("towline.broker")

_META = "SELECT application, schema_version, clock, sequence FROM towline_meta"
_FRESH_TERMS = (
    "UPDATE towline_jobs SET lease_until = MAX(lease_until, ? + lease_length) WHERE state = 3"
)
_SAVE_CLOCK = "UPDATE towline_meta SET clock = ?"
_READY = (
    "SELECT q.name, SUM(c.ready) FROM towline_counters c JOIN towline_kinds k ON k.id = c.kind"
    " JOIN towline_queues q ON q.id = k.queue GROUP BY q.name HAVING SUM(c.ready) > 0"
)


@dataclass(slots=True)
class OpenStore:
    lock: OwnerLock
    writing: sa.Connection
    reading: sa.Connection
    checkpoints: Checkpoints
    mark: Mark
    names: Names
    #: The latest time that the store had seen before it was opened.
    clock: Micros
    sequence: int
    #: Queues with READY jobs, and how many.
    ready: dict[str, int]

    def close(self, *, checkpoint: bool) -> None:
        """Brings the log home if asked to, and lets go of everything."""
        self.reading.close()
        try:
            if checkpoint:
                self.checkpoints.make_last()
        except sqlite3.Error as error:
            failure = translated(error)
            if not isinstance(failure, DiskFull):
                raise failure from error
            log.warning(
                "the disk is full: the log of the store stays as long as it is",
                extra=event("disk_full_at_close"),
            )
        finally:
            self.writing.close()
            self.checkpoints.close()
            self.mark.close()
            self.lock.release()


def open_store(path: Path, now: Micros, *, upgrade: bool, check: bool) -> OpenStore:
    """Raises StoreRefused, having changed nothing, if the place cannot hold a store of ours, and
    NoRoom if the disk is full.

    ``upgrade``: one of an older version is brought up to date. ``check``: all of it is read for
    damage before.
    """
    try:
        file.check_place(path, upgrade=upgrade)
        lock = OwnerLock(path, Path(f"{path}.lock"))
        lock.acquire()
    except OSError as error:
        raise not_opened(path, error, error.strerror) from error
    try:
        # What was seen before the lock was ours may have changed since.
        file.check_place(path, upgrade=upgrade)
        mark.check(path)
        if file.is_new(path):
            file.create(path)
        elif check:
            file.check_content(path)
        if upgrade:
            with connected(path) as connection:
                versions.prepare(connection, str(path), upgrade=True)
        return _connect(path, now, lock)
    except BaseException as error:
        lock.release()
        # The last of them: a text in it is no UTF-8.
        if isinstance(error, OSError | sqlite3.Error | SQLAlchemyError | UnicodeDecodeError):
            cause = getattr(error, "orig", None) or error
            raise not_opened(path, error, cause) from error
        raise


def _connect(path: Path, now: Micros, lock: OwnerLock) -> OpenStore:
    # Before there are connections: closing a file drops this process's locks on it.
    sync(path)
    size = path.stat().st_size
    with ExitStack() as unless_opened:
        writing = connect(path)
        unless_opened.callback(writing.close)
        meta = _meta(path, writing)
        clock, sequence = meta[2], meta[3]
        names = Names()
        transaction = SqliteTransaction(writing, names, lambda _: 0, HeldLeases())
        writing.exec_driver_sql("BEGIN IMMEDIATE")
        run(names.load(transaction))
        run(_resume(transaction, max(now, clock)))
        writing.exec_driver_sql("COMMIT")
        # The names of the file and of its log, which a broker may have made that was killed before
        # they were durable. SQLite sees to that of a log only where it has made it itself.
        sync(path.parent)
        reading = connect(path)
        unless_opened.callback(reading.close)
        reading.exec_driver_sql("PRAGMA query_only = ON")
        ready = run(_ready(SqliteReader(reading)))
        known = Mark(path, size)
        checkpoints = Checkpoints(writing, path, known)
        unless_opened.pop_all()
        return OpenStore(lock, writing, reading, checkpoints, known, names, clock, sequence, ready)


def _meta(path: Path, connection: sa.Connection) -> Row:
    """A newer schema may so far stand in the log only, so the header does not settle it."""
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    file.check_version(path, version)
    meta = connection.exec_driver_sql(_META).one_or_none()
    if meta is None or meta[0] != "towline" or meta[1] != versions.CURRENT:
        raise StoreRefused(f"{path} is marked as a store of Towline but does not hold one")
    return meta


async def _resume(transaction: SqliteTransaction, now: Micros) -> None:
    """Live leases get a fresh term: their workers could not reach a broker meanwhile. None ends
    earlier than its worker was told."""
    await transaction.change(_FRESH_TERMS, now)
    await transaction.change(_SAVE_CLOCK, now)


async def _ready(reader: Reader) -> dict[str, int]:
    return {queue: int(count) for queue, count in await reader.rows(_READY)}
