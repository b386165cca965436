"""Storing jobs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import itemgetter

from towline_broker.domain.errors import QueueFull, QueueMoved
from towline_broker.domain.jobs import JobState, NewJob
from towline_broker.domain.retry import DEFAULT_POLICY
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import PushBatch, PushOutcome, PushResult
from towline_broker.drivers.sql.transaction import Raced, Transaction

_MOVED = "SELECT name, moving_to FROM towline_queues WHERE name IN (?*) AND moved = 1"
#: One statement, so that a job cannot go from the first table to the second in between.
_KNOWN = (
    "SELECT id FROM towline_jobs WHERE id IN (?*)"
    " UNION ALL SELECT job_id FROM towline_settled WHERE job_id IN (?*) AND state IS NOT NULL"
)
_REMEMBERED = "SELECT job_id FROM towline_settled WHERE job_id IN (?*) AND state IS NOT NULL"
_HELD_KEYS = (
    "SELECT q.name, u.unique_key, u.job_id, u.held_until FROM towline_unique_keys u"
    " JOIN towline_queues q ON q.id = u.queue WHERE u.unique_key IN (?*)"
)
_LIVE = (
    "SELECT q.name, SUM(c.scheduled + c.ready + c.leased) FROM towline_queues q"
    " JOIN towline_kinds k ON k.queue = q.id JOIN towline_counters c ON c.kind = k.id"
    " WHERE q.name IN (?*) GROUP BY q.name"
)
_INSERT = (
    "INSERT INTO towline_jobs (seq, id, queue, kind, priority, state, position, attempt, releases,"
    " enqueued_at, available_at, expires_at, retention, unique_key, retry, noted)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?, ?, 0)"
)
INSERT_ENVELOPE = "INSERT INTO towline_envelopes (seq, body) VALUES (?, ?)"
_DROP_KEY = "DELETE FROM towline_unique_keys WHERE unique_key = ? AND queue = ? AND held_until <= ?"
_INSERT_KEY = (
    "INSERT INTO towline_unique_keys (unique_key, queue, job_id, held_until) VALUES (?, ?, ?, ?)"
)


async def push(transaction: Transaction, batch: PushBatch) -> list[PushResult]:
    for queue, to in await transaction.rows_of(_MOVED, {job.queue for job in batch.jobs}):
        raise QueueMoved(queue, to)
    known = await known_ids(transaction, [job.id for job in batch.jobs])
    holders = await key_holders(transaction, batch.jobs, batch.now)
    room = await _room(transaction, batch)
    results: list[PushResult] = []
    new: list[NewJob] = []
    for job in batch.jobs:
        job_id, key = job.id, job.unique_key
        holder = job_id if job_id in known else None
        if holder is None and key is not None:
            holder = holders.get((job.queue, key))
        if holder is not None:
            results.append(PushResult(holder, PushOutcome.EXISTING))
            continue
        if room and not _takes_room(room, job, batch):
            results.append(PushResult(job_id, PushOutcome.QUEUE_FULL))
            continue
        known.add(job_id)
        if key is not None and still_held(job.unique_until, batch.now):
            holders[job.queue, key] = job_id
        new.append(job)
        results.append(PushResult(job_id, PushOutcome.CREATED))
    if new:
        await _store(transaction, new, batch.now)
    return results


async def known_ids(transaction: Transaction, ids: Sequence[str]) -> set[str]:
    """Those that are stored or remembered."""
    return {row[0] for row in await transaction.rows_of(_KNOWN, ids)}


async def check_still_unknown(transaction: Transaction, ids: Sequence[str]) -> None:
    """Of jobs that were just inserted, raises Raced if one has been stored and settled meanwhile.

    From ``known_ids`` to the insertion another broker may have stored the same id, and a worker may
    have acknowledged it. Had it not been, the insertion would have failed for the id; from the
    insertion on nobody else can insert it. So what stands in the settle memory now is all that
    ever will.
    """
    if transaction.shared and await transaction.rows_of(_REMEMBERED, ids):
        raise Raced


def still_held(held_until: Micros | None, now: Micros) -> bool:
    return held_until is None or held_until > now


async def key_holders(
    transaction: Transaction, jobs: Iterable[NewJob], now: Micros
) -> dict[tuple[str, str], str]:
    """Who holds the unique keys of the jobs, by queue and key."""
    keys = {job.unique_key for job in jobs if job.unique_key is not None}
    return {
        (queue, key): job_id
        for queue, key, job_id, until in await transaction.rows_of(_HELD_KEYS, keys)
        if still_held(until, now)
    }


async def _room(transaction: Transaction, batch: PushBatch) -> dict[str, int]:
    """How many jobs those queues of the batch still take that may fill up by it."""
    pushed = Counter(job.queue for job in batch.jobs)
    limited = [
        queue
        for queue in pushed.keys() & batch.max_depth.keys()
        if not transaction.depths.surely_below(batch.max_depth[queue], queue, pushed[queue])
    ]
    live = {queue: int(depth or 0) for queue, depth in await transaction.rows_of(_LIVE, limited)}
    for queue in limited:
        transaction.depths.read(queue, live.get(queue, 0))
    room = {queue: batch.max_depth[queue] - live.get(queue, 0) for queue in limited}
    return {queue: left for queue, left in room.items() if left < pushed[queue]}


def _takes_room(room: dict[str, int], job: NewJob, batch: PushBatch) -> bool:
    left = room.get(job.queue)
    if left is None:
        return True
    if left > 0:
        room[job.queue] = left - 1
        return True
    if batch.all_or_nothing:
        raise QueueFull(job.queue, batch.max_depth[job.queue])
    return False


async def _store(transaction: Transaction, jobs: Sequence[NewJob], now: Micros) -> None:
    names = transaction.names
    # What others may be making as well is made in a fixed order: nobody waits in a circle.
    kinds = await names.ensure(transaction, sorted({(job.queue, job.type) for job in jobs}))
    lines = dict.fromkeys((kinds[job.queue, job.type].queue_id, job.priority) for job in jobs)
    await names.ensure_lines(transaction, lines)
    sequence = await transaction.sequence(len(jobs))
    heads = transaction.heads
    rows: list[tuple[object, ...]] = []
    envelopes: list[tuple[object, ...]] = []
    ready: list[tuple[str, str]] = []
    scheduled: list[tuple[str, str]] = []
    keys: list[tuple[object, ...]] = []
    retry, policy = DEFAULT_POLICY, DEFAULT_POLICY.to_text()
    for seq, job in enumerate(jobs, start=sequence):
        name = (job.queue, job.type)
        kind, due_at, expires_at, key = kinds[name], job.due_at, job.expires_at, job.unique_key
        if due_at is None or due_at <= now:
            ready.append(name)
            state, available_at = 2, now
        else:
            scheduled.append(name)
            state, available_at = 1, due_at
            heads.appeared("due", due_at)
        if expires_at is not None:
            heads.appeared("expiry", expires_at)
        if key is not None and still_held(job.unique_until, now):
            keys.append((key, kind.queue_id, job.id, job.unique_until))
        if job.retry is not retry:
            retry, policy = job.retry, job.retry.to_text()
        rows.append(
            (  # one tuple for a job, at once: there are many
                seq,
                job.id,
                kind.queue_id,
                kind.id,
                job.priority,
                state,
                seq,
                now,
                available_at,
                expires_at,
                job.retention,
                key,
                policy,
            )
        )
        envelopes.append((seq, job.envelope))
    if transaction.shared:
        rows.sort(key=itemgetter(1))
        keys.sort(key=itemgetter(0, 1))
    await transaction.change_many(_INSERT, rows)
    await check_still_unknown(transaction, [job.id for job in jobs])
    await transaction.change_many(INSERT_ENVELOPE, envelopes)
    await hold_keys(transaction, keys, now)
    tally = transaction.tally
    ready_kinds = [kinds[name].id for name in ready]
    scheduled_kinds = [kinds[name].id for name in scheduled]
    tally.move(ready_kinds, into=JobState.READY)
    tally.move(scheduled_kinds, into=JobState.SCHEDULED)
    tally.count("pushed", ready_kinds + scheduled_kinds)
    transaction.effects.ready.update(Counter(queue for queue, _ in ready))


async def hold_keys(
    transaction: Transaction, keys: Sequence[tuple[object, ...]], now: Micros
) -> None:
    """Takes unique keys (key, queue, job, time), in place of holders whose time is over."""
    await transaction.change_many(_DROP_KEY, [(key, queue, now) for key, queue, _, _ in keys])
    await transaction.change_many(_INSERT_KEY, keys)
