"""The file of a store while no broker uses it."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.owning import OwnerLock
from towline_broker.drivers.sql.sqlite import file


@contextmanager
def owned(path: Path) -> Iterator[sa.Connection]:
    """The store at the path, for nobody else meanwhile: a connection.

    Raises StoreRefused if there is none of ours, or a broker uses it.
    """
    path = path.resolve()
    with ExitStack() as at_end:
        try:
            file.check_place(path, upgrade=True)
            if file.is_new(path):
                raise StoreRefused(
                    f"there is no store at {path}; a broker makes one when it starts"
                )
            lock = OwnerLock(path, Path(f"{path}.lock"))
            lock.acquire()
            at_end.callback(lock.release)
            yield at_end.enter_context(connected(path))
        except (OSError, SQLAlchemyError) as error:
            cause = getattr(error, "orig", None) or error
            raise StoreRefused(f"{path} cannot be opened: {cause}") from error


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
