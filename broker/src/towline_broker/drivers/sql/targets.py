"""Jobs that an operation is about to change, and the changes that several operations share."""

# ruff: noqa: S608 - statements are composed of constants of this module

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from towline_broker.domain.jobs import DeadReason, JobState, LeaseRef, Settlement
from towline_broker.domain.time import Micros
from towline_broker.drivers.sql import schema
from towline_broker.drivers.sql.transaction import Reader, Row, Transaction


class Target(NamedTuple):
    """What deciding about a job needs; the columns of ``TARGET``."""

    seq: int
    id: str
    kind: int
    state: int
    attempt: int
    releases: int
    position: int
    available_at: Micros
    retention: Micros
    unique_key: str | None
    noted: int
    started_at: Micros | None
    lease_grant: str | None
    lease_until: Micros | None
    lease_length: Micros | None
    finished_at: Micros | None


TARGET = ", ".join(Target._fields)

_BY_ID = f"SELECT {TARGET} FROM towline_jobs WHERE id IN (?*)"
#: The plus keeps planners away from the index of leases: they are to look up the ids.
LEASED_BY_ID = f"{_BY_ID} AND +state = 3"

_REMOVE = "DELETE FROM towline_jobs WHERE seq IN (?*)"
_REMOVE_ENVELOPES = "DELETE FROM towline_envelopes WHERE seq IN (?*)"
_REMOVE_NOTES = "DELETE FROM towline_notes WHERE seq IN (?*)"

_FREE_KEY = "DELETE FROM towline_unique_keys WHERE unique_key = ? AND queue = ? AND job_id = ?"
_FREE_UNTIMED_KEY = f"{_FREE_KEY} AND held_until IS NULL"

_EXPIRE = (
    "UPDATE towline_jobs SET state = 5, dead_reason = ?, finished_at = ?, position = ?"
    " WHERE seq = ?"
)


def targets(rows: Iterable[Row]) -> list[Target]:
    return [Target._make(row) for row in rows]


async def by_id(reader: Reader, ids: Iterable[str]) -> dict[str, Target]:
    found = targets(await reader.rows_of(_BY_ID, ids))
    return {target.id: target for target in found}


async def locked_by_id(transaction: Transaction, ids: Iterable[str]) -> dict[str, Target]:
    """Waits for whoever is changing one of them, and finds it as that one leaves it."""
    found = targets(await transaction.locked_of(_BY_ID, ids))
    return {target.id: target for target in found}


async def leased(transaction: Transaction, refs: Iterable[LeaseRef]) -> dict[LeaseRef, Target]:
    """The jobs of those leases that are live; there may be other leases among them.

    They are locked: of two that settle the same lease at once, the second waits for the first, and
    then finds the job gone or under another grant. What it reads of the settle memory after that
    includes how the first one ended the lease.
    """
    found = targets(await transaction.locked_of(LEASED_BY_ID, [ref.job_id for ref in refs]))
    names = transaction.names
    return {
        LeaseRef(names.of(target.kind).queue, target.id, target.lease_grant or ""): target
        for target in found
    }


async def remove(transaction: Transaction, gone: Sequence[Target]) -> None:
    """Takes jobs out of the store, with all that hangs on them but their unique keys."""
    await remove_rows(transaction, [t.seq for t in gone], [t.seq for t in gone if t.noted])


async def remove_rows(transaction: Transaction, seqs: list[int], noted: list[int]) -> int:
    """The same by the numbers of the jobs; ``noted``: of those that have notes. Returns how many
    jobs there were."""
    removed = await transaction.change_of(_REMOVE, seqs)
    await transaction.change_of(_REMOVE_ENVELOPES, seqs)
    await transaction.change_of(_REMOVE_NOTES, noted)
    return removed


async def free_keys(transaction: Transaction, ended: Iterable[Target], *, timed_too: bool) -> None:
    """Frees the keys that the jobs hold; those held for a time of their own only if asked to."""
    rows = [
        (target.unique_key, transaction.names.of(target.kind).queue_id, target.id)
        for target in ended
        if target.unique_key is not None
    ]
    await free_keys_of(transaction, rows, timed_too=timed_too)


async def free_keys_of(
    transaction: Transaction, rows: Sequence[tuple[object, ...]], *, timed_too: bool
) -> None:
    """The same by the key, the number of the queue and the id of each job."""
    await transaction.change_many(_FREE_KEY if timed_too else _FREE_UNTIMED_KEY, rows)


class Memory(NamedTuple):
    """A row of the settle memory; the columns of ``schema.settled``."""

    job_id: str
    lease_grant: str
    settlement: Settlement | None
    state: JobState | None
    queue: int
    finished_at: Micros | None
    remember_until: Micros
    result: bytes | None = None


async def remember(transaction: Transaction, memories: Sequence[tuple[object, ...]]) -> None:
    """``memories``: of the fields of :class:`Memory`."""
    await transaction.put_many(schema.settled, memories)


async def die_of_age(transaction: Transaction, expired: Sequence[Target], now: Micros) -> None:
    """Makes SCHEDULED or READY jobs DEAD because nobody started them in time."""
    if not expired:
        return
    position = await transaction.sequence(len(expired))
    rows = [
        (int(DeadReason.EXPIRED), now, position + offset, target.seq)
        for offset, target in enumerate(expired)
    ]
    await transaction.change_many(_EXPIRE, rows)
    await free_keys(transaction, expired, timed_too=False)
    for state in (JobState.SCHEDULED, JobState.READY):
        kinds = [target.kind for target in expired if target.state == state]
        transaction.tally.move(kinds, out_of=state, into=JobState.DEAD)
    transaction.tally.count("dead_lettered", [target.kind for target in expired])
    transaction.effects.ended.extend(target.id for target in expired)
