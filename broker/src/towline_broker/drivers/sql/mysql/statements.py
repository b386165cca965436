"""Statements in the words of MySQL: made once of each text."""

# ruff: noqa: S608 - statements are composed of constants

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.mysql.asyncmy import MySQLDialect_asyncmy
from sqlalchemy.sql import ClauseElement, Executable

from towline_broker.drivers.sql import acks, claims, moving, queues, targets, upkeep
from towline_broker.drivers.sql.keys import KEYS
from towline_broker.drivers.sql.shared.transaction import OF_LINE, OF_QUEUE

#: Most keys in one statement.
MOST_KEYS = 512
_DIALECT = MySQLDialect_asyncmy(paramstyle="format")
_ON_CONFLICT = " ON CONFLICT DO NOTHING"
_ON_DUPLICATE = " ON DUPLICATE KEY UPDATE "
_VALUES = re.compile(r" VALUES (?P<values>\(.*\))$")

#: What these servers have columns of their own for, in place of partial indexes (``tables.py``).
_DUE = (("state = 1 AND ", ""), ("available_at", "due_at"))
_EXPIRY = (
    ("expires_at IS NOT NULL AND attempt = 0 AND state <= 2 AND ", ""),
    ("expires_at", "expiring_at"),
)
_OWN_COLUMNS = {
    upkeep.DUE: _DUE,
    upkeep.NEXT_TIMES["due"]: _DUE,
    upkeep.TOO_OLD: _EXPIRY,
    upkeep.NEXT_TIMES["expiry"]: _EXPIRY,
}
#: The same for whatever statement asks in these orders.
_OWN_ORDERS = (
    ("j.state = 1 ORDER BY j.available_at", "j.due_at IS NOT NULL ORDER BY j.due_at"),
    ("j.state = 5 ORDER BY j.finished_at", "j.died_at IS NOT NULL ORDER BY j.died_at"),
    (" state = 5 ORDER BY finished_at", " died_at IS NOT NULL ORDER BY died_at"),
    # Planners here begin with the kinds, and sort.
    ("+j.kind IN (SELECT id FROM towline_kinds WHERE queue = ?)", "j.queue = ?"),
)
#: Left alone, the planner is misled by its statistics: of a table that was empty when they were
#: taken, or by the many jobs in one state.
_INDEXES = {
    claims.LEASES_PAST: "towline_jobs_deadline",
    claims.LEASES_BY_ID: "towline_jobs_id",
    claims.OF_REQUEST: "towline_jobs_request",
    queues.HEAD_OF_LINE: "towline_jobs_ready",
    queues.READY_OF_QUEUE: "towline_jobs_ready",
    queues.SCHEDULED_OF_QUEUE: "towline_jobs_ready",
    acks.HELD: "towline_jobs_id",
    targets.LEASED_BY_ID: "towline_jobs_id",
    moving.OUTGOING_READY: "towline_jobs_ready",
    moving.OUTGOING_SCHEDULED: "towline_jobs_due",
    moving.OUTGOING_DEAD: "towline_jobs_dead",
    moving.OUTGOING_KEPT: "towline_jobs_kept",
    upkeep.DUE: "towline_jobs_due",
    upkeep.NEXT_TIMES["due"]: "towline_jobs_due",
    upkeep.NEXT_TIMES["leases"]: "towline_jobs_deadline",
    upkeep.NEXT_TIMES["expiry"]: "towline_jobs_expiry",
    upkeep.TOO_OLD: "towline_jobs_expiry",
    upkeep.PAST_RETENTION: "towline_jobs_kept",
}
_FROM_JOBS = re.compile(r" FROM towline_jobs(?: j\b)?")
#: The same for statements that SQLAlchemy composes: dead jobs, and those behind one of them. (By
#: the pair alone no index is entered, only walked along.)
_DEAD = "towline_jobs.state = 5"
_BEHIND = "(towline_jobs.died_at, towline_jobs.position) > (%s, %s)"


@cache
def adapted(sql: str) -> str:
    """With ``%s`` for a parameter."""
    found = sql
    for old, new in (*_OWN_COLUMNS.get(sql, ()), *_OWN_ORDERS):
        found = found.replace(old, new)
    index = "towline_jobs_ready" if sql.endswith((OF_LINE, OF_QUEUE)) else _INDEXES.get(sql)
    if index is not None:
        # Of a claim the first is in the list of its columns.
        *_, jobs = _FROM_JOBS.finditer(found)
        found = f"{found[: jobs.end()]} FORCE INDEX ({index}){found[jobs.end() :]}"
    if found.endswith(_ON_CONFLICT):
        found = found.removesuffix(_ON_CONFLICT).replace("INSERT INTO", "INSERT IGNORE INTO", 1)
    return found.replace("?", "%s").replace("(%s*)", KEYS)


@cache
def with_keys(sql: str, count: int) -> str:
    """The statement with room for so many keys, each time that it names them."""
    return adapted(sql).replace(KEYS, f"({', '.join(['%s'] * count)})")


@cache
def many(sql: str) -> tuple[str, str, str, str]:
    """One statement for many rows of parameters: what stands before them, the first row, each
    further one, and what follows.

    (Of a hundred rows this takes a fraction of the time of a statement for each.)
    """
    if sql.startswith("INSERT "):
        head, update, rest = adapted(sql).partition(_ON_DUPLICATE)
        found = _VALUES.search(head)
        assert found is not None, sql  # noqa: S101 - a defect
        row = found.group("values")
        return f"{head[: found.start()]} VALUES ", row, f", {row}", update + rest
    return _joined(sql)


def _joined(sql: str) -> tuple[str, str, str, str]:
    """An UPDATE or DELETE of one row, joined with a table of the parameters."""
    first, *others = adapted(sql).split("%s")
    named = first + "".join(f"v.p{n}{piece}" for n, piece in enumerate(others, start=1))
    names = ", ".join(f"%s AS p{n}" for n in range(1, len(others) + 1))
    row = ", ".join(["%s"] * len(others))
    verb = "UPDATE " if named.startswith("UPDATE ") else "DELETE FROM "
    table, _, rest = named.removeprefix(verb).partition(" ")
    head = "UPDATE (" if verb == "UPDATE " else f"DELETE {table} FROM ("
    return head, f"SELECT {names}", f" UNION ALL SELECT {row}", f") v STRAIGHT_JOIN {table} {rest}"


@cache
def put(table: sa.Table) -> str:
    """Inserts a whole row, in place of the one with the same primary key."""
    names = [column.name for column in table.columns]
    key = [column.name for column in table.primary_key]
    others = ", ".join(f"{name} = VALUES({name})" for name in names if name not in key)
    values = ", ".join("?" * len(names))
    into = f"{table.name} ({', '.join(names)})"
    return f"INSERT INTO {into} VALUES ({values}){_ON_DUPLICATE}{others}"


def compiled(statement: Executable) -> tuple[str, Sequence[Any]]:
    """A statement composed by SQLAlchemy: its text and parameters."""
    compile_ = cast("ClauseElement", statement).compile
    done: Any = compile_(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    text = str(done)
    parameters = [done.params[name] for name in done.positiontup]
    if _DEAD in text:
        text = text.replace(_DEAD, "towline_jobs.died_at IS NOT NULL")
        text = text.replace("towline_jobs.finished_at", "towline_jobs.died_at")
    head, behind, tail = text.partition(_BEHIND)
    if behind:
        place = head.count("%s")
        parameters.insert(place, parameters[place])
        text = f"{head}towline_jobs.died_at >= %s AND {behind}{tail}"
    return text, parameters
