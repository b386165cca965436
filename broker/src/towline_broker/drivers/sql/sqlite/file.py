"""The file of a store: told from others without touching it, owned by one broker, made durably.

The kind and version of a store stand in the header of the SQLite file (``application_id`` and
``user_version``), so that a file can be refused on its first hundred bytes, before SQLite opens it
and leaves files beside it. A new store is made under another name and renamed when it is whole.
"""

import sqlite3
import struct
from pathlib import Path

import sqlalchemy as sa

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.disk import sync
from towline_broker.drivers.sql import schema

#: "Twln" in ASCII; stands at byte 68 of the file.
APPLICATION_ID = 0x54776C6E
_MAGIC = b"SQLite format 3\0"
_HEADER_SIZE = 100


def check_place(path: Path) -> None:
    """Raises StoreRefused unless there is a store of ours at the path, or room for one."""
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
    check_version(path, version)


def check_version(path: Path, version: int) -> None:
    if version != schema.SCHEMA_VERSION:
        age = "newer" if version > schema.SCHEMA_VERSION else "unknown"
        raise StoreRefused(
            f"{path} has the {age} schema version {version}, and this broker knows "
            f"{schema.SCHEMA_VERSION}; use the release of Towline that wrote it, or a later one"
        )


def is_new(path: Path) -> bool:
    """Whether a store is to be made. Raises StoreRefused if it would adopt a lost one's log."""
    if path.exists() and path.stat().st_size > 0:
        return False
    log = Path(f"{path}-wal")
    if log.exists():
        raise StoreRefused(
            f"{log} belongs to a database that is not there: bring {path.name} back beside it, or "
            "move it away"
        )
    return True


def create(path: Path) -> None:
    """Makes an empty store that is there whole, and durably, or not at all."""
    draft = Path(f"{path}.creating")
    for leftover in (draft, Path(f"{draft}-journal")):
        leftover.unlink(missing_ok=True)
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(draft))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.exec_driver_sql(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
        schema.metadata.create_all(connection)
        connection.execute(
            schema.meta.insert().values(
                application="towline", schema_version=schema.SCHEMA_VERSION, clock=0, sequence=0
            )
        )
    engine.dispose()
    sync(draft)
    draft.rename(path)
    sync(path.parent)


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEADER_SIZE)
