"""What must be true of the tables of a store, whichever database they are in.

Each question is one statement, which sees one state of the store: brokers may be at work.
"""

# ruff: noqa: S608 - statements are composed of constants of this module

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from towline_broker.domain.words import many
from towline_broker.drivers.findings import Finding, Report
from towline_broker.drivers.sql.tally import DEPTHS
from towline_broker.drivers.sql.transaction import Row

#: Asks a statement without parameters.
Ask: TypeAlias = Callable[[str], Awaitable[Sequence[Row]]]

RESTORE = "restore the store from a backup"
REBUILD = "export the store and import it into a new one, which makes all of this anew"

#: Of kinds whose counters do not agree with their jobs.
WRONG_COUNTS = (
    "SELECT q.name, k.type, k.id, "
    + ", ".join(f"COALESCE(c.{name}, 0), COALESCE(j.{name}, 0)" for name in DEPTHS)
    + " FROM towline_kinds k JOIN towline_queues q ON q.id = k.queue"
    + " LEFT JOIN (SELECT kind, "
    + ", ".join(f"SUM({name}) AS {name}" for name in DEPTHS)
    + " FROM towline_counters GROUP BY kind) c ON c.kind = k.id"
    + " LEFT JOIN (SELECT kind, "
    + ", ".join(
        f"SUM(CASE WHEN state = {state} THEN 1 ELSE 0 END) AS {name}"
        for name, state in zip(DEPTHS, (1, 2, 3, 5), strict=True)
    )
    + " FROM towline_jobs GROUP BY kind) j ON j.kind = k.id WHERE "
    + " OR ".join(f"COALESCE(c.{name}, 0) <> COALESCE(j.{name}, 0)" for name in DEPTHS)
    + " ORDER BY q.name, k.type"
)
_SEALED = "SELECT name, moving_to FROM towline_queues WHERE moving_to <> '' AND moved = 0"
_STATES = "SELECT state, COUNT(*) FROM towline_jobs GROUP BY state ORDER BY state"
_NAMES = ("none", "scheduled", "ready", "leased", "succeeded", "dead", "cancelled")


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows that must not be there."""

    #: Of how many, and the id of one of them.
    what: str
    #: FROM and WHERE, after a SELECT of the count and of ``example``.
    among: str
    example: str
    #: Statements that put it right without losing anything; to be run by the owner of the store.
    repair: Sequence[str] = ()
    #: What to do where there is no repair.
    way_out: str = REBUILD


RULES = (
    Rule(
        "{count} jobs have lost their payload, job {example} among them",
        "FROM towline_jobs j LEFT JOIN towline_envelopes e ON e.seq = j.seq WHERE e.seq IS NULL",
        "MIN(j.id)",
        way_out=RESTORE,
    ),
    Rule(
        "{count} payloads belong to no job, number {example} among them",
        "FROM towline_envelopes e LEFT JOIN towline_jobs j ON j.seq = e.seq WHERE j.seq IS NULL",
        "MIN(e.seq)",
        ("DELETE FROM towline_envelopes WHERE seq NOT IN (SELECT seq FROM towline_jobs)",),
    ),
    Rule(
        "{count} failures and reports of progress belong to no job, number {example} among them",
        "FROM towline_notes n LEFT JOIN towline_jobs j ON j.seq = n.seq WHERE j.seq IS NULL",
        "MIN(n.seq)",
        ("DELETE FROM towline_notes WHERE seq NOT IN (SELECT seq FROM towline_jobs)",),
    ),
    Rule(
        "{count} jobs have lost their last failure and progress, job {example} among them",
        "FROM towline_jobs j LEFT JOIN towline_notes n ON n.seq = j.seq"
        " WHERE j.noted = 1 AND n.seq IS NULL",
        "MIN(j.id)",
        (
            "UPDATE towline_jobs SET noted = 0"
            " WHERE noted = 1 AND seq NOT IN (SELECT seq FROM towline_notes)",
        ),
    ),
    Rule(
        "{count} jobs are of a queue or type that is not there, job {example} among them",
        "FROM towline_jobs j LEFT JOIN towline_kinds k ON k.id = j.kind AND k.queue = j.queue"
        " LEFT JOIN towline_queues q ON q.id = k.queue WHERE q.id IS NULL",
        "MIN(j.id)",
        way_out=RESTORE,
    ),
    Rule(
        "{count} jobs are in a state that does not agree with the rest of them, job {example} "
        "among them",
        "FROM towline_jobs j WHERE j.state NOT IN (1, 2, 3, 4, 5, 6)"
        " OR (j.state = 3 AND (j.lease_grant IS NULL OR j.lease_until IS NULL OR j.attempt < 1))"
        " OR (j.state = 5 AND (j.finished_at IS NULL OR j.dead_reason IS NULL))"
        " OR (j.state IN (4, 6) AND j.keep_until IS NULL)",
        "MIN(j.id)",
    ),
    Rule(
        "{count} unique keys are held by jobs that have ended or are gone, job {example} among "
        "them",
        "FROM towline_unique_keys u LEFT JOIN towline_jobs j ON j.id = u.job_id AND j.state <= 3"
        " WHERE u.held_until IS NULL AND j.id IS NULL",
        "MIN(u.job_id)",
        (
            "DELETE FROM towline_unique_keys WHERE held_until IS NULL"
            " AND job_id NOT IN (SELECT id FROM towline_jobs WHERE state <= 3)",
        ),
    ),
    Rule(
        "{count} ready jobs share their place in a line with another one, in line {example}",
        "FROM (SELECT queue, priority, position FROM towline_jobs WHERE state = 2"
        " GROUP BY queue, priority, position HAVING COUNT(*) > 1) shared",
        "MIN(queue)",
    ),
)


async def look(ask: Ask, *, repairable: bool = False) -> Report:
    """``repairable``: the store has one owner, who can put right what rules say how."""
    findings = [
        Finding(
            f"queue {queue}, type {type_}: {_differences(depths)}",
            "towline-broker check --repair counts anew" if repairable else REBUILD,
            repairable,
        )
        for queue, type_, _, *depths in await ask(WRONG_COUNTS)
    ]
    for rule in RULES:
        ((count, example),) = await ask(f"SELECT COUNT(*), {rule.example} {rule.among}")
        if count:
            mends = repairable and bool(rule.repair)
            way_out = "towline-broker check --repair puts it right" if mends else rule.way_out
            findings.append(Finding(rule.what.format(count=count, example=example), way_out, mends))
    sealed = {str(name): str(to) for name, to in await ask(_SEALED)}
    return Report(_summary(await ask(_STATES)), findings, sealed=sealed)


def repairs(wrong_counts: Sequence[Row]) -> list[tuple[str, tuple[object, ...]]]:
    """Statements with their parameters, for whoever owns the store; ``wrong_counts`` are the rows
    of :data:`WRONG_COUNTS` after the statements of the rules."""
    found: list[tuple[str, tuple[object, ...]]] = []
    for _, _, kind, *depths in wrong_counts:
        first = (
            "INSERT INTO towline_counters (kind, shard) SELECT ?, 0 WHERE NOT EXISTS"
            " (SELECT 1 FROM towline_counters WHERE kind = ?)"
        )
        found.append((first, (kind, kind)))
        by = [there - counted for counted, there in _pairs(depths)]
        sums = ", ".join(f"{name} = {name} + ?" for name in DEPTHS)
        shard = "(SELECT MIN(shard) FROM towline_counters WHERE kind = ?)"
        add = f"UPDATE towline_counters SET {sums} WHERE kind = ? AND shard = {shard}"
        found.append((add, (*by, kind, kind)))
    return found


def _pairs(depths: Sequence[int]) -> list[tuple[int, int]]:
    return [
        (int(counted), int(there)) for counted, there in zip(depths[::2], depths[1::2], strict=True)
    ]


def _differences(depths: Sequence[int]) -> str:
    return ", ".join(
        f"{counted} {name} by the counts, and {there} by the jobs"
        for name, (counted, there) in zip(DEPTHS, _pairs(depths), strict=True)
        if counted != there
    )


def _summary(rows: Sequence[Row]) -> str:
    counts = [(_NAMES[int(state) if 0 < state < len(_NAMES) else 0], int(n)) for state, n in rows]
    total = sum(count for _, count in counts)
    told = ", ".join(f"{count:,} {name}" for name, count in counts)
    return many(total, "job") + (f": {told}" if told else "")
