"""What happens because time passes."""

# ruff: noqa: S608 - statements are composed of constants of this module

from collections.abc import Sequence

from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import Micros
from towline_broker.drivers.sql.targets import TARGET, die_of_age, remove, targets
from towline_broker.drivers.sql.transaction import Reader, Row, Transaction

DUE = (
    "SELECT available_at, seq, kind FROM towline_jobs"
    " WHERE state = 1 AND available_at >= ? AND available_at <= ?"
    " ORDER BY available_at, position LIMIT ?"
)
_PROMOTE = "UPDATE towline_jobs SET state = 2, position = ?, available_at = ? WHERE seq = ?"
_EXPIRES = "expires_at IS NOT NULL AND attempt = 0 AND state <= 2 AND expires_at >= ?"
TOO_OLD = (
    f"SELECT expires_at, {TARGET} FROM towline_jobs WHERE {_EXPIRES} AND expires_at <= ?"
    " ORDER BY expires_at LIMIT ?"
)
PAST_RETENTION = (
    f"SELECT keep_until, {TARGET} FROM towline_jobs"
    " WHERE keep_until IS NOT NULL AND keep_until >= ? AND keep_until <= ?"
    " ORDER BY keep_until LIMIT ?"
)
PAST_MEMORY = (
    "SELECT remember_until, job_id, lease_grant FROM towline_settled"
    " WHERE remember_until >= ? AND remember_until <= ? ORDER BY remember_until LIMIT ?"
)
_FORGET_MEMORY = "DELETE FROM towline_settled WHERE job_id = ? AND lease_grant = ?"
PAST_KEYS = (
    "SELECT held_until, unique_key, queue FROM towline_unique_keys"
    " WHERE held_until IS NOT NULL AND held_until >= ? AND held_until <= ?"
    " ORDER BY held_until LIMIT ?"
)
_FORGET_KEY = "DELETE FROM towline_unique_keys WHERE unique_key = ? AND queue = ?"

#: By the index by time in which each finds the earliest. (Asked for a minimum, PostgreSQL may read
#: another index from end to end.)
NEXT_TIMES = {
    "due": (
        "SELECT available_at FROM towline_jobs WHERE state = 1 AND available_at >= ?"
        " ORDER BY available_at LIMIT 1"
    ),
    "leases": (
        "SELECT lease_until FROM towline_jobs WHERE state = 3 AND lease_until >= ?"
        " ORDER BY lease_until LIMIT 1"
    ),
    "expiry": (f"SELECT expires_at FROM towline_jobs WHERE {_EXPIRES} ORDER BY expires_at LIMIT 1"),
}


async def promote(transaction: Transaction, now: Micros, limit: int) -> int:
    """Of brokers that do this at the same time each takes jobs that no other has taken."""
    due = await _past(transaction, "due", DUE, now, limit)
    if not due:
        return 0
    position = await transaction.sequence(len(due))
    await transaction.change_many(
        _PROMOTE, [(position + offset, now, row[1]) for offset, row in enumerate(due)]
    )
    kinds = [row[2] for row in due]
    transaction.tally.move(kinds, out_of=JobState.SCHEDULED, into=JobState.READY)
    transaction.effects.ready.update(transaction.names.of(kind).queue for kind in kinds)
    return len(due)


async def expire(transaction: Transaction, now: Micros, limit: int) -> int:
    rows = await _past(transaction, "expiry", TOO_OLD, now, limit)
    expired = targets(row[1:] for row in rows)
    await die_of_age(transaction, expired, now)
    return len(expired)


async def forget(transaction: Transaction, now: Micros, limit: int) -> int:
    rows = await _past(transaction, "kept", PAST_RETENTION, now, limit)
    kept = targets(row[1:] for row in rows)
    await remove(transaction, kept)
    transaction.effects.ended.extend(target.id for target in kept)
    left = limit - len(kept)
    memories = await _past(transaction, "memories", PAST_MEMORY, now, left)
    await transaction.change_many(_FORGET_MEMORY, [tuple(row[1:]) for row in memories])
    left -= len(memories)
    keys = await _past(transaction, "keys", PAST_KEYS, now, left)
    await transaction.change_many(_FORGET_KEY, [tuple(row[1:]) for row in keys])
    return limit - left + len(keys)


async def next_due(reader: Reader) -> Micros | None:
    times: list[Micros] = []
    for index, sql in NEXT_TIMES.items():
        rows = await reader.rows(sql, reader.heads.since(index))
        times += [row[0] for row in rows]
        reader.heads.reached(index, rows[0][0] if rows else None)
    return min(times, default=None)


async def _past(
    transaction: Transaction, index: str, sql: str, now: Micros, limit: int
) -> Sequence[Row]:
    """Rows whose time (their first column) has come, locked, earliest first."""
    rows = await transaction.locked(sql, transaction.heads.since(index), now, limit)
    transaction.heads.reached(index, rows[-1][0] if rows else None)
    return rows
