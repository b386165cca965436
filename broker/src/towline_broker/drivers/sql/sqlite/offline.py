"""The file of a store, without a broker: making it and bringing it up to date."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.owning import OwnerLock
from towline_broker.drivers.sql import versions
from towline_broker.drivers.sql.sqlite import file, mark


def prepare(path: Path) -> None:
    """Makes the store, or brings an older one up to date.

    Raises StoreRefused, also if a broker uses it.
    """
    path = path.resolve()
    try:
        file.check_place(path, upgrade=True)
        lock = OwnerLock(path, Path(f"{path}.lock"))
        lock.acquire()
        try:
            mark.check(path)
            if file.is_new(path):
                file.create(path)
                return
            with connected(path) as connection:
                versions.prepare(connection, str(path), upgrade=True)
        finally:
            lock.release()
    except (OSError, sqlite3.Error, SQLAlchemyError, UnicodeDecodeError) as error:
        cause = getattr(error, "orig", None) or error
        raise StoreRefused(f"{path} cannot be opened: {cause}") from error


def version_of(path: Path) -> int | None:
    """Of the store's tables, also while a broker uses it; None if there is no store.

    Raises StoreRefused if there is something else.
    """
    path = path.resolve()
    try:
        file.check_place(path, upgrade=True)
        if file.is_new(path):
            return None
        # What stands in the log counts, too.
        address = f"{path.as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
    except (OSError, sqlite3.Error) as error:
        raise StoreRefused(f"{path} cannot be opened: {error}") from error


@contextmanager
def connected(path: Path) -> Iterator[sa.Connection]:
    """A connection whose transactions take in the changes of tables. To be used by the owner."""
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(path, isolation_level=None),
        poolclass=NullPool,
    )
    sa.event.listen(engine, "begin", _begin)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
