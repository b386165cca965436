"""A copy of a store's file, made while a broker uses it.

SQLite copies the pages as one of its readers sees them: everything that was committed before the
copy began, and nothing of what came later. In WAL mode a reader keeps no writer waiting, but for
this: the log cannot begin anew until the copy is made.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.disk import Taken, sync
from towline_broker.drivers.owning import OwnerLock
from towline_broker.drivers.sql.sqlite import file, mark
from towline_broker.drivers.sql.sqlite.checking import look

#: Seconds that a lock of the broker's may be waited for.
_PATIENCE = 30.0


def back_up(store: Path, target: Path) -> str:
    """Makes the copy at ``target``, in place of what is there, once it was read through and found
    whole. Returns what is in it, in a few words.

    Raises StoreRefused, sqlite3.Error, OSError.
    """
    file.check_place(store, upgrade=True)
    if file.is_new(store):
        raise StoreRefused(f"there is no store at {store}")
    _check_target(target)
    draft = target.with_name(f"{target.name}.part")
    draft.unlink(missing_ok=True)
    try:
        # Payloads are nobody else's business.
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _copy(store, draft)
        contents = _checked(draft)
        sync(draft)
        # What it says of the store that was there is not true of this one.
        mark.path_of(target).unlink(missing_ok=True)
        draft.replace(target)
        sync(target.parent)
    finally:
        draft.unlink(missing_ok=True)
    return contents


def _check_target(target: Path) -> None:
    """Raises Taken if a log would be taken for the copy's, or somebody uses the file."""
    if not target.exists():
        for name in (f"{target}-wal", f"{target}-journal"):
            if Path(name).exists():
                raise Taken(f"{name} would be taken for a part of the copy; move it away")
        return
    if not target.is_file():
        raise Taken(f"{target} is not a file")
    lock = OwnerLock(target, Path(f"{target}.lock"))
    lock.acquire()
    lock.release()
    log = Path(f"{target}-wal")
    if log.exists() and log.stat().st_size:
        raise Taken(f"{log} belongs to what is there now; move both away")
    for leftover in (log, Path(f"{target}-shm")):
        leftover.unlink(missing_ok=True)


def _copy(store: Path, draft: Path) -> None:
    address = f"{store.as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE)) as source,
        closing(sqlite3.connect(draft, isolation_level=None)) as copy,
    ):
        # It counts for nothing before it was synced as a whole.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        source.backup(copy)


def _checked(draft: Path) -> str:
    """Raises StoreRefused."""
    # Nobody else knows the file, and no log is to be made beside it.
    with closing(sqlite3.connect(f"{draft.as_uri()}?immutable=1", uri=True)) as connection:
        report = look(connection)
    if report.findings:
        raise StoreRefused(
            "the copy is not sound, and neither is the store, as it seems: "
            f"{report.findings[0].what}; look at it with `towline-broker check`"
        )
    return report.summary
