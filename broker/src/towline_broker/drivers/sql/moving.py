"""Moving a queue to another store, and taking in one that comes from there."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from towline_broker.domain.errors import QueueNotFound
from towline_broker.domain.jobs import JobRecord, JobState, NewJob
from towline_broker.domain.retry import RetryPolicy
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Copy, CopyPage, Standing, Transfer
from towline_broker.drivers.sql.listing import numbers_of, records_of
from towline_broker.drivers.sql.names import Kind
from towline_broker.drivers.sql.notes import Notes, write_notes
from towline_broker.drivers.sql.pushes import (
    INSERT_ENVELOPE,
    hold_keys,
    key_holders,
    known_ids,
    still_held,
)
from towline_broker.drivers.sql.targets import Target, free_keys, locked_by_id, remove
from towline_broker.drivers.sql.transaction import Reader, Row, Transaction

_QUEUE = "SELECT id, paused, moving_to FROM towline_queues WHERE name = ?"
_SEAL = "UPDATE towline_queues SET moving_to = ? WHERE id = ?"
_UNSEAL = "UPDATE towline_queues SET moving_to = '', moved = 0 WHERE id = ?"
_FORWARD = "UPDATE towline_queues SET moved = 1 WHERE id = ?"
_READY_DEPTH = (
    "SELECT SUM(c.ready) FROM towline_counters c JOIN towline_kinds k ON k.id = c.kind"
    " WHERE k.queue = ?"
)


class _Outgoing(NamedTuple):
    """What the record of a job does not tell."""

    seq: int
    retry: str
    retention: Micros
    unique_key: str | None
    expires_at: Micros | None
    keep_until: Micros | None
    #: Of the unique key, if it is this job; then also until when.
    holder: str | None
    held_until: Micros | None


_OUTGOING = (
    "SELECT j.seq, j.retry, j.retention, j.unique_key, j.expires_at, j.keep_until, u.job_id,"
    " u.held_until FROM towline_jobs j LEFT JOIN towline_unique_keys u"
    " ON u.unique_key = j.unique_key AND u.queue = j.queue AND u.job_id = j.id"
)
#: The pluses keep planners to the index that has the jobs in their order.
_KINDS = "+j.kind IN (SELECT id FROM towline_kinds WHERE queue = ?)"
OUTGOING_READY = (
    f"{_OUTGOING} WHERE j.queue = ? AND j.state = 2 ORDER BY j.priority DESC, j.position LIMIT ?"
)
OUTGOING_SCHEDULED = (
    f"{_OUTGOING} WHERE +j.queue = ? AND j.state = 1 ORDER BY j.available_at, j.position LIMIT ?"
)
OUTGOING_DEAD = (
    f"{_OUTGOING} WHERE {_KINDS} AND j.state = 5 ORDER BY j.finished_at, j.position LIMIT ?"
)
OUTGOING_KEPT = (
    f"{_OUTGOING} WHERE +j.queue = ? AND j.keep_until IS NOT NULL ORDER BY j.keep_until LIMIT ?"
)
_COPIES = _OUTGOING.replace(" FROM ", ", j.position FROM ", 1) + (
    " WHERE j.seq > ? ORDER BY j.seq LIMIT ?"
)
_LEASED = (
    "SELECT SUM(c.leased) FROM towline_counters c JOIN towline_kinds k ON k.id = c.kind"
    " WHERE k.queue = ?"
)

_RECEIVE = (
    "INSERT INTO towline_jobs (seq, id, queue, kind, priority, state, position, attempt, releases,"
    " enqueued_at, available_at, expires_at, retention, unique_key, retry, noted, started_at,"
    " finished_at, dead_reason, keep_until, result)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
#: How its leases ended is kept; that it was ever here is not.
_FORGET_JOBS = "DELETE FROM towline_settled WHERE job_id IN (?*) AND settlement IS NULL"
_FORGET_ENDS = (
    "UPDATE towline_settled SET state = NULL, finished_at = NULL, result = NULL"
    " WHERE job_id IN (?*)"
)


async def seal(transaction: Transaction, queue: str, to: str | None) -> None:
    found = await transaction.rows(_QUEUE, queue)
    if not found and to is not None:
        raise QueueNotFound(queue)
    for queue_id, paused, was_moving_to in found:
        if to is not None:
            await transaction.change(_SEAL, to, queue_id)
            continue
        await transaction.change(_UNSEAL, queue_id)
        ready = await _depth(transaction, _READY_DEPTH, queue_id)
        if ready and was_moving_to and not paused:
            transaction.effects.ready[queue] += ready


async def copies(reader: Reader, limit: int, cursor: str | None) -> CopyPage:
    after = -1 if cursor is None else numbers_of(cursor, 1)[0]
    rows = await reader.rows(_COPIES, after, limit)
    found = [_Outgoing._make(row[:-1]) for row in rows]
    records = await records_of(reader, [job.seq for job in found])
    transfers = map(_transfer, found, records)
    page = [Copy(transfer, row[-1]) for transfer, row in zip(transfers, rows, strict=True)]
    return CopyPage(page, str(found[-1].seq) if len(found) == limit else None)


async def outgoing(reader: Reader, queue: str, limit: int) -> list[Transfer]:
    queue_id, *_ = await _queue(reader, queue)
    found: list[_Outgoing] = []
    for sql in (OUTGOING_READY, OUTGOING_SCHEDULED, OUTGOING_DEAD, OUTGOING_KEPT):
        if len(found) < limit:
            rows = await reader.rows(sql, queue_id, limit - len(found))
            found += map(_Outgoing._make, rows)
    records = await records_of(reader, [job.seq for job in found])
    return [_transfer(job, record) for job, record in zip(found, records, strict=True)]


def _transfer(job: _Outgoing, record: JobRecord) -> Transfer:
    may_expire = record.attempt == 0 and not record.state.ended
    new = NewJob(
        id=record.id,
        queue=record.queue,
        type=record.type,
        envelope=record.envelope,
        priority=record.priority,
        expires_at=job.expires_at if may_expire else None,
        retention=job.retention,
        unique_key=job.unique_key,
        unique_until=job.held_until,
        retry=RetryPolicy.from_text(job.retry),
    )
    return Transfer(new, record, job.holder is not None, job.keep_until)


async def receive(transaction: Transaction, transfers: Sequence[Transfer], now: Micros) -> int:
    known = await known_ids(transaction, [transfer.new.id for transfer in transfers])
    fresh: list[Transfer] = []
    for transfer in transfers:
        if transfer.new.id not in known:
            known.add(transfer.new.id)
            fresh.append(transfer)
    if fresh:
        await _store(transaction, fresh, now)
    return len(fresh)


async def _store(transaction: Transaction, fresh: Sequence[Transfer], now: Micros) -> None:
    jobs = [transfer.new for transfer in fresh]
    names = transaction.names
    kinds = await names.ensure(transaction, dict.fromkeys((job.queue, job.type) for job in jobs))
    of_jobs = [kinds[job.queue, job.type] for job in jobs]
    lines = [(kind.queue_id, job.priority) for kind, job in zip(of_jobs, jobs, strict=True)]
    await names.ensure_lines(transaction, dict.fromkeys(lines))
    holders = await key_holders(transaction, jobs, now)
    first = await transaction.sequence(len(jobs))
    rows: list[tuple[object, ...]] = []
    notes: dict[int, Notes] = {}
    keys: list[tuple[object, ...]] = []
    for seq, (transfer, kind) in enumerate(zip(fresh, of_jobs, strict=True), start=first):
        new, record = transfer.new, transfer.record
        rows.append(_row(seq, kind, transfer))
        if record.failure is not None or record.progress is not None:
            notes[seq] = Notes(record.failure, record.progress)
        if _takes_key(transfer, holders, now):
            keys.append((new.unique_key, kind.queue_id, new.id, new.unique_until))
        _announce(transaction, transfer)
    await transaction.change_many(_RECEIVE, rows)
    envelopes = [(seq, job.envelope) for seq, job in enumerate(jobs, start=first)]
    await transaction.change_many(INSERT_ENVELOPE, envelopes)
    await write_notes(transaction, notes)
    await hold_keys(transaction, keys, now)
    for state in JobState:
        came = [
            kind
            for transfer, kind in zip(fresh, of_jobs, strict=True)
            if transfer.record.state is state
        ]
        transaction.tally.move([kind.id for kind in came], into=state)
        if state is JobState.READY:
            transaction.effects.ready.update(Counter(kind.queue for kind in came))


def _takes_key(transfer: Transfer, holders: dict[tuple[str, str], str], now: Micros) -> bool:
    """Whether the job held its key and nobody else does; it is among the holders then."""
    new = transfer.new
    if not transfer.holds_key or new.unique_key is None or not still_held(new.unique_until, now):
        return False
    return holders.setdefault((new.queue, new.unique_key), new.id) == new.id


def _row(seq: int, kind: Kind, transfer: Transfer) -> tuple[object, ...]:
    new, record = transfer.new, transfer.record
    noted = record.failure is not None or record.progress is not None
    return (
        *(seq, new.id, kind.queue_id, kind.id, new.priority, int(record.state), seq),
        *(record.attempt, record.releases, record.enqueued_at),
        record.enqueued_at if record.available_at is None else record.available_at,
        *(new.expires_at, new.retention, new.unique_key, new.retry.to_text(), int(noted)),
        *(record.started_at, record.finished_at, record.dead_reason, transfer.keep_until),
        record.result or None,
    )


def _announce(transaction: Transaction, transfer: Transfer) -> None:
    """The times under which the job is found when they come."""
    new, record, heads = transfer.new, transfer.record, transaction.heads
    if record.state is JobState.SCHEDULED:
        heads.appeared("due", record.available_at or 0)
    if new.expires_at is not None:
        heads.appeared("expiry", new.expires_at)
    if transfer.keep_until is not None:
        heads.appeared("kept", transfer.keep_until)
    if new.unique_until is not None:
        heads.appeared("keys", new.unique_until)


async def drop(transaction: Transaction, queue: str, seen: Sequence[Standing]) -> list[str]:
    found = await locked_by_id(transaction, [one.job_id for one in seen])
    gone: list[Target] = []
    others: list[str] = []
    for one in seen:
        target = found.pop(one.job_id, None)
        if target is not None and _stands(transaction, target, queue, one):
            gone.append(target)
        else:
            others.append(one.job_id)
    await remove(transaction, gone)
    await free_keys(transaction, gone, timed_too=True)
    await transaction.change_of(_FORGET_JOBS, [target.id for target in gone])
    await transaction.change_of(_FORGET_ENDS, [target.id for target in gone])
    for state in JobState:
        kinds = [target.kind for target in gone if target.state == state]
        transaction.tally.move(kinds, out_of=state)
    return others


def _stands(transaction: Transaction, target: Target, queue: str, seen: Standing) -> bool:
    if target.state == JobState.LEASED or transaction.names.of(target.kind).queue != queue:
        return False
    return (target.state, target.attempt) == (seen.state, seen.attempt)


async def forward(transaction: Transaction, queue: str) -> bool:
    queue_id, _, moving_to = await _queue(transaction, queue)
    if not moving_to or await _holds_any(transaction, queue_id):
        return False
    await transaction.change(_FORWARD, queue_id)
    return True


async def _holds_any(reader: Reader, queue_id: int) -> bool:
    if await _depth(reader, _LEASED, queue_id):
        return True
    for sql in (OUTGOING_READY, OUTGOING_SCHEDULED, OUTGOING_DEAD, OUTGOING_KEPT):
        if await reader.rows(sql, queue_id, 1):
            return True
    return False


async def _queue(reader: Reader, name: str) -> Row:
    rows = await reader.rows(_QUEUE, name)
    if not rows:
        raise QueueNotFound(name)
    return rows[0]


async def _depth(reader: Reader, sql: str, queue_id: int) -> int:
    return int((await reader.rows(sql, queue_id))[0][0] or 0)
