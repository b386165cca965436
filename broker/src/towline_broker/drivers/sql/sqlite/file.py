"""The file of a store: told from others without touching it, owned by one broker, made durably.

The kind and version of a store stand in the header of the SQLite file (``application_id`` and
``user_version``), so that a file can be refused on its first hundred bytes, before SQLite opens it
and leaves files beside it. A new store is made under another name and renamed when it is whole.
"""

import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.disk import PRIVATE, sync
from towline_broker.drivers.sql import versions
from towline_broker.drivers.sql.sqlite import mark

#: "Twln" in ASCII; stands at byte 68 of the file.
APPLICATION_ID = 0x54776C6E
#: Makes a new file one of ours.
MARK = f"PRAGMA application_id = {APPLICATION_ID}"
_MAGIC = b"SQLite format 3\0"
_HEADER_SIZE = 100


def check_place(path: Path, *, upgrade: bool) -> None:
    """Raises StoreRefused unless there is a store of ours at the path, or room for one.

    ``upgrade``: one of an older version will do.
    """
    if not path.parent.is_dir():
        raise StoreRefused(
            f"{path}: there is no directory {path.parent}; create it, or name another place"
        )
    if path.exists() and not path.is_file():
        raise StoreRefused(f"{path} is not a regular file; name another one")
    if is_new(path):
        return
    header = _header(path)
    if len(header) < _HEADER_SIZE or not header.startswith(_MAGIC):
        raise StoreRefused(f"{path} is not a SQLite database; name another file")
    version, application = struct.unpack_from(">I4xI", header, 60)
    if application != APPLICATION_ID:
        raise StoreRefused(f"{path} is a SQLite database of another program; name another file")
    # Of an older version it may be by the header only, with the upgrade still in the log.
    settled = version > versions.CURRENT or not _log(path).exists()
    if settled and not (upgrade and version < versions.CURRENT):
        check_version(path, version)


def check_version(path: Path, version: int) -> None:
    """Raises StoreRefused if a broker cannot use a store of this version as it is."""
    if version < 1:
        raise StoreRefused(f"{path} has the unknown schema version {version}; name another file")
    versions.check(str(path), version)


def is_new(path: Path) -> bool:
    """Whether a store is to be made. Raises StoreRefused if it would adopt a lost one's log."""
    if path.exists() and path.stat().st_size > 0:
        return False
    log = _log(path)
    if log.exists():
        raise StoreRefused(
            f"{log} belongs to a database that is not there: bring {path.name} back beside it, or "
            "move it away"
        )
    return True


def check_content(path: Path) -> None:
    """Reads all of it. Raises StoreRefused if SQLite finds that it does not hold together, which
    damage to what only stands in one place, as a payload does, never shows. Raises sqlite3.Error.
    """
    if mark.is_interrupted(path):
        return
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        what = " ".join(found.removeprefix("*** in database main ***").split())
        raise StoreRefused(
            f"{path} is damaged: {what}; restore it from a backup, or bring what is left into a "
            f"new file with `sqlite3 {path.name} .recover`"
        )


def create(path: Path) -> None:
    """Makes an empty store that is there whole, and durably, or not at all."""
    draft = Path(f"{path}.creating")
    for leftover in (draft, Path(f"{draft}-journal"), mark.path_of(path)):
        leftover.unlink(missing_ok=True)
    # SQLite gives its log the mode of the store.
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))
    engine = sa.create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(draft, isolation_level=None)
    )
    with engine.begin() as connection:
        # One transaction: left to itself, the client would sync after each table.
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(MARK)
        connection.exec_driver_sql(f"PRAGMA user_version = {versions.CURRENT}")
        versions.create(connection)
    engine.dispose()
    sync(draft)
    draft.rename(path)
    sync(path.parent)


def _log(path: Path) -> Path:
    return Path(f"{path}-wal")


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEADER_SIZE)
