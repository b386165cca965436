"""Whether the file of a store holds together, also while a broker uses it; and putting right what
can be put right without losing anything."""

import errno
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.disk import free_bytes
from towline_broker.drivers.findings import Finding, Report
from towline_broker.drivers.owning import Owned, OwnerLock
from towline_broker.drivers.sql import checking, versions
from towline_broker.drivers.sql.sqlite import file, mark
from towline_broker.drivers.sql.transaction import Row, run

#: Most that SQLite tells of its own.
_MOST = 1_000
#: Bytes that SQLite needs beside a file to read it (its index of the log).
_LEAST_FREE = 64 * 1024
_RESTORE = (
    "restore the file from a backup, or bring what is left into a new one with `sqlite3 FILE "
    ".recover`"
)


def check(store: Path) -> Report:
    """Changes nothing. Raises StoreRefused if there is no store of ours; sqlite3.Error, OSError."""
    file.check_place(store, upgrade=True)
    if file.is_new(store):
        raise StoreRefused(f"there is no store at {store}")
    lost = _lost(store)
    return _check(store) if lost is None else Report("", [lost])


def _check(store: Path) -> Report:
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN")
        return look(connection)


def look(connection: sqlite3.Connection) -> Report:
    """All of what the connection sees; of a store of an earlier release, whether it is whole."""
    damage = _damage(connection)
    if damage:
        further = f"SQLite looks no further after {_MOST:,}" if len(damage) >= _MOST else ""
        return Report(further, damage)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != versions.CURRENT:
        return Report(f"schema version {version}, of which only SQLite's own check is made")

    async def ask(sql: str) -> Sequence[Row]:
        return connection.execute(sql).fetchall()

    report = run(checking.look(ask, repairable=True))
    return replace(report, findings=[*report.findings, *_sequence(connection)])


def repair(store: Path) -> Report:
    """Puts right what can be; nothing, if something else is lost, for that may tell what should be.
    Raises StoreRefused, also if a broker uses the store."""
    lock = OwnerLock(store, Path(f"{store}.lock"))
    lock.acquire()
    try:
        mark.check(store)
        before = _check(store)
        if not before.findings or not all(one.repairable for one in before.findings):
            return before
        _mend(store)
        after = _check(store)
        left = {finding.what for finding in after.findings}
        mended = [one.what for one in before.findings if one.what not in left]
        return replace(after, repaired=mended)
    finally:
        lock.release()


def _mend(store: Path) -> None:
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        for rule in checking.RULES:
            for statement in rule.repair:
                connection.execute(statement)
        wrong = connection.execute(checking.WRONG_COUNTS).fetchall()
        for statement, parameters in checking.repairs(wrong):
            connection.execute(statement, parameters)
        connection.execute("COMMIT")


def _lost(store: Path) -> Finding | None:
    """What was acknowledged and is missing; only if nobody uses the store can that be told."""
    lock = OwnerLock(store, Path(f"{store}.lock"))
    if not Path(f"{store}.lock").exists():
        return None
    try:
        lock.acquire()
    except Owned:
        return None
    try:
        mark.check(store)
    except StoreRefused as refused:
        return Finding(str(refused))
    except sqlite3.Error as error:
        if free_bytes(store.parent) < _LEAST_FREE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(store)) from error
        return Finding(f"{store} cannot be read: {error}", _RESTORE)
    finally:
        lock.release()
    return None


def _damage(connection: sqlite3.Connection) -> list[Finding]:
    try:
        rows = connection.execute(f"PRAGMA integrity_check({_MOST})").fetchall()
    except sqlite3.DatabaseError as error:
        return [Finding(f"the file cannot be read: {error}", _RESTORE)]
    if rows == [("ok",)]:
        return []
    lines = [line for (text,) in rows for line in str(text).splitlines()]
    told = [line for line in lines if not line.startswith("***")]
    return [Finding(line, _RESTORE) for line in told]


def _sequence(connection: sqlite3.Connection) -> list[Finding]:
    ((sequence, highest),) = connection.execute(
        "SELECT m.sequence, (SELECT MAX(MAX(seq), MAX(position)) FROM towline_jobs)"
        " FROM towline_meta m"
    ).fetchall()
    if highest is None or highest <= sequence:
        return []
    what = f"places up to {highest} are taken, and the next one given out would be {sequence + 1}"
    return [Finding(what, checking.REBUILD)]
