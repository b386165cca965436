"""What SQLite reports, in the terms of the driver interface."""

import sqlite3

from sqlalchemy.exc import DBAPIError

from towline_broker.domain.errors import StoreFailed, StoreUnavailable

#: After these nothing that the file says, or says to have synced, can be relied on.
_FATAL = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_INTERNAL,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class DiskFull(Exception):
    """SQLite ran out of disk space; the transaction it happened in is void."""


def translated(error: Exception) -> Exception:
    """A store error or :class:`DiskFull` if the database reported one; else the error itself."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, UnicodeDecodeError):
        return StoreFailed(f"the store's database is damaged: a text is no UTF-8: {cause.reason}")
    if not isinstance(cause, sqlite3.Error):
        return error
    code = getattr(cause, "sqlite_errorcode", None)
    if code is None:
        return error
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return DiskFull()
    if primary in _BUSY:
        return StoreUnavailable("another program has locked the store's database; try again")
    if primary in _FATAL:
        name = getattr(cause, "sqlite_errorname", "error")
        return StoreFailed(f"the store's database failed: {name}: {cause}")
    return error
