"""Copies of embedded stores, made while a broker uses them."""

import errno
import os
import sqlite3
from pathlib import Path

from towline_broker.archive.stores import need_file, place_of
from towline_broker.domain.errors import NotSupported, StoreRefused
from towline_broker.drivers.disk import Taken
from towline_broker.drivers.registry import check_kind

#: How a server's own tools do it.
_ELSEWHERE = {
    "postgresql": "use pg_dump, or what keeps your other databases safe",
    "postgres": "use pg_dump, or what keeps your other databases safe",
    "mysql": "use mysqldump --single-transaction, or what keeps your other databases safe",
    "mariadb": "use mariadb-dump --single-transaction, or what keeps your other databases safe",
    "sqs": "Amazon keeps the messages",
}


def back_up(url: str, target: Path, *, force: bool) -> str:
    """Returns what is in the copy, in a few words.

    Raises NotSupported, StoreRefused, StoreUnavailable, OSError.
    """
    kind = check_kind(url)
    store = place_of(url)
    if store is None:
        way_out = _ELSEWHERE.get(kind, "copy the server's own files (its RDB or append-only file)")
        raise NotSupported(kind, "backups", f"{way_out}; or export the jobs")
    target = target.resolve()
    _check(store, target, force=force)
    if kind == "sqlite":
        from towline_broker.drivers.sql.sqlite.backup import back_up as back_up_sqlite

        try:
            return back_up_sqlite(store, target)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
            raise StoreRefused(f"{store} cannot be copied: {error}") from error
    from towline_broker.drivers.file.backup import back_up as back_up_file

    return back_up_file(store, target)


def _check(store: Path, target: Path, *, force: bool) -> None:
    need_file(store)
    if target == store or store in target.parents:
        raise StoreRefused(f"{target} is (in) the store itself; name another place")
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target.parent))
    if target.exists() and not force:
        raise Taken(f"{target} is there already; name another place, or give --force")
