"""What happens because time passes."""

# ruff: noqa: S608 - statements are composed of constants of this module

from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import Micros
from towline_broker.drivers.sql.targets import TARGET, die_of_age, remove, targets
from towline_broker.drivers.sql.transaction import Reader, Transaction

DUE = (
    "SELECT seq, kind FROM towline_jobs WHERE state = 1 AND available_at <= ?"
    " ORDER BY available_at, position LIMIT ?"
)
_PROMOTE = "UPDATE towline_jobs SET state = 2, position = ?, available_at = ? WHERE seq = ?"
TOO_OLD = (
    f"SELECT {TARGET} FROM towline_jobs"
    " WHERE expires_at IS NOT NULL AND attempt = 0 AND state <= 2 AND expires_at <= ?"
    " ORDER BY expires_at LIMIT ?"
)
PAST_RETENTION = (
    f"SELECT {TARGET} FROM towline_jobs WHERE keep_until IS NOT NULL AND keep_until <= ?"
    " ORDER BY keep_until LIMIT ?"
)
PAST_MEMORY = (
    "SELECT job_id, lease_grant FROM towline_settled WHERE remember_until <= ?"
    " ORDER BY remember_until LIMIT ?"
)
_FORGET_MEMORY = "DELETE FROM towline_settled WHERE job_id = ? AND lease_grant = ?"
PAST_KEYS = (
    "SELECT unique_key, queue FROM towline_unique_keys"
    " WHERE held_until IS NOT NULL AND held_until <= ? ORDER BY held_until LIMIT ?"
)
_FORGET_KEY = "DELETE FROM towline_unique_keys WHERE unique_key = ? AND queue = ?"

#: Each finds the earliest time in an index of its own.
NEXT_TIMES = (
    "SELECT MIN(available_at) FROM towline_jobs WHERE state = 1",
    "SELECT MIN(lease_until) FROM towline_jobs WHERE state = 3",
    "SELECT MIN(expires_at) FROM towline_jobs"
    " WHERE expires_at IS NOT NULL AND attempt = 0 AND state <= 2",
)


async def promote(transaction: Transaction, now: Micros, limit: int) -> int:
    due = await transaction.rows(DUE, now, limit)
    if not due:
        return 0
    position = await transaction.sequence(len(due))
    await transaction.change_many(
        _PROMOTE, [(position + offset, now, row[0]) for offset, row in enumerate(due)]
    )
    kinds = [row[1] for row in due]
    transaction.tally.move(kinds, out_of=JobState.SCHEDULED, into=JobState.READY)
    transaction.effects.ready.update(transaction.names.of(kind).queue for kind in kinds)
    return len(due)


async def expire(transaction: Transaction, now: Micros, limit: int) -> int:
    expired = targets(await transaction.rows(TOO_OLD, now, limit))
    await die_of_age(transaction, expired, now)
    return len(expired)


async def forget(transaction: Transaction, now: Micros, limit: int) -> int:
    kept = targets(await transaction.rows(PAST_RETENTION, now, limit))
    await remove(transaction, kept)
    transaction.effects.ended.extend(target.id for target in kept)
    left = limit - len(kept)
    memories = await transaction.rows(PAST_MEMORY, now, left)
    await transaction.change_many(_FORGET_MEMORY, [tuple(row) for row in memories])
    left -= len(memories)
    keys = await transaction.rows(PAST_KEYS, now, left)
    await transaction.change_many(_FORGET_KEY, [tuple(row) for row in keys])
    return limit - left + len(keys)


async def next_due(reader: Reader) -> Micros | None:
    times = [(await reader.rows(sql))[0][0] for sql in NEXT_TIMES]
    return min((time for time in times if time is not None), default=None)
