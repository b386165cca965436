"""Ending leases without success, and prolonging them: only under the grant that is stored."""

from collections.abc import Iterable, Sequence

from towline_broker.domain.jobs import JobState, LeaseRef, Settlement
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    ExtendBatch,
    Extended,
    ExtendItem,
    NackBatch,
    NackItem,
    Settled,
)
from towline_broker.drivers.sql.notes import NOTHING, Notes, notes_of, write_notes
from towline_broker.drivers.sql.targets import (
    Memory,
    Target,
    free_keys,
    leased,
    remember,
)
from towline_broker.drivers.sql.transaction import Reader, Transaction

#: SQLite takes the tables of a CROSS JOIN in the order in which they are named.
SETTLEMENTS = (
    "SELECT q.name, s.job_id, s.lease_grant, s.settlement FROM towline_settled s"
    " CROSS JOIN towline_queues q"
    " WHERE s.job_id IN (?*) AND s.settlement IS NOT NULL AND q.id = s.queue"
)
_END_LEASE = (
    "UPDATE towline_jobs SET state = ?, position = ?, available_at = ?, attempt = ?, releases = ?,"
    " finished_at = ?, dead_reason = ?, noted = ?, lease_grant = NULL, lease_until = NULL,"
    " worker_id = NULL, request_id = NULL WHERE seq = ?"
)
_EXTEND = "UPDATE towline_jobs SET lease_until = ?, noted = ? WHERE seq = ?"


async def nack(transaction: Transaction, batch: NackBatch) -> list[Settled]:
    held = await leased(transaction, [item.ref for item in batch.nacks])
    ended: list[tuple[NackItem, Target]] = []
    answers: list[Settled | None] = []
    for item in batch.nacks:
        if _runs_on(held.get(item.ref), item, batch.now):
            answers.append(Settled(False))
            continue
        target = held.pop(item.ref, None)
        if target is not None:
            ended.append((item, target))
        answers.append(_applied(transaction, target, batch.now))
    await _end_leases(transaction, ended, batch)
    return await with_memory(transaction, [item.ref for item in batch.nacks], answers)


async def extend(transaction: Transaction, batch: ExtendBatch) -> list[Extended]:
    held = await leased(transaction, [item.ref for item in batch.items])
    live = [(item, target) for item in batch.items if (target := held.get(item.ref))]
    noted = await _report_progress(transaction, live)
    # By job: of a lease named twice in a call the later one counts.
    rows: dict[int, tuple[object, ...]] = {}
    answers: list[Extended | None] = []
    for item in batch.items:
        target = held.get(item.ref)
        if target is None:
            answers.append(None)
            continue
        length = target.lease_length if item.lease is None else item.lease
        until = batch.now + (length or 0)
        transaction.heads.appeared("leases", until)
        rows[target.seq] = (until, 1 if target.seq in noted else target.noted, target.seq)
        answers.append(Extended(until))
    await transaction.change_many(_EXTEND, list(rows.values()))
    missing = [
        item.ref for item, answer in zip(batch.items, answers, strict=True) if answer is None
    ]
    before = await _settlements(transaction, missing)
    return [
        answer or Extended(None, before.get(item.ref))
        for item, answer in zip(batch.items, answers, strict=True)
    ]


def _runs_on(target: Target | None, item: NackItem, now: Micros) -> bool:
    """Said to be lost, but not past its deadline."""
    lost = item.settlement is Settlement.LOST
    return lost and target is not None and (target.lease_until or 0) > now


def _applied(transaction: Transaction, target: Target | None, now: Micros) -> Settled | None:
    if target is None:
        return None
    kind = transaction.names.of(target.kind)
    return Settled(True, type=kind.type, elapsed=now - (target.started_at or now))


async def with_memory(
    reader: Reader, refs: Sequence[LeaseRef], answers: Sequence[Settled | None]
) -> list[Settled]:
    """Fills the gaps in the answers with how those leases had ended."""
    missing = [ref for ref, answer in zip(refs, answers, strict=True) if answer is None]
    before = await _settlements(reader, missing) if missing else {}
    return [
        answer or Settled(False, before.get(ref)) for ref, answer in zip(refs, answers, strict=True)
    ]


async def _settlements(reader: Reader, refs: Iterable[LeaseRef]) -> dict[LeaseRef, Settlement]:
    rows = await reader.rows_of(SETTLEMENTS, [ref.job_id for ref in refs])
    return {LeaseRef(*ref): Settlement(number) for *ref, number in rows}


async def _end_leases(
    transaction: Transaction, ended: Sequence[tuple[NackItem, Target]], batch: NackBatch
) -> None:
    names, tally, effects = transaction.names, transaction.tally, transaction.effects
    position = await transaction.sequence(len(ended))
    rows: list[tuple[object, ...]] = []
    memories: list[Memory] = []
    for item, target in ended:
        kind = names.of(target.kind)
        released = item.settlement is Settlement.RELEASED
        state = _state_after(item, batch.now)
        dead = state is JobState.DEAD
        rows.append(
            (
                *(int(state), position),
                item.due_at if state is JobState.SCHEDULED else batch.now,
                *(target.attempt - released, target.releases + released),
                batch.now if dead else None,
                item.dead_reason,
                1 if item.failure is not None else target.noted,
                target.seq,
            )
        )
        position += 1
        if state is JobState.SCHEDULED:
            transaction.heads.appeared("due", item.due_at or 0)
        if released:
            # As one that was never started, it may be too old again.
            transaction.heads.appeared("expiry", 0)
        memories.append(
            Memory(
                *(target.id, item.ref.grant, item.settlement, None, kind.queue_id, None),
                batch.remember_until,
            )
        )
        tally.move([target.kind], out_of=JobState.LEASED, into=state)
        _count(transaction, item, target)
        if dead:
            effects.ended.append(target.id)
        elif state is JobState.READY:
            effects.ready[kind.queue] += 1
    await _record_failures(transaction, ended)
    await transaction.change_many(_END_LEASE, rows)
    await remember(transaction, memories)
    dead_jobs = [target for item, target in ended if item.dead_reason is not None]
    await free_keys(transaction, dead_jobs, timed_too=False)


def _state_after(item: NackItem, now: Micros) -> JobState:
    if item.dead_reason is not None:
        return JobState.DEAD
    if item.due_at is not None and item.due_at > now:
        return JobState.SCHEDULED
    return JobState.READY


def _count(transaction: Transaction, item: NackItem, target: Target) -> None:
    totals = []
    if item.settlement is Settlement.RELEASED:
        totals.append("released")
    else:
        totals.append("failed")
        if item.dead_reason is None:
            totals.append("retried")
    if item.settlement is Settlement.LOST:
        totals.append("lease_expired")
    if item.dead_reason is not None:
        totals.append("dead_lettered")
    for total in totals:
        transaction.tally.count(total, [target.kind])


async def _record_failures(
    transaction: Transaction, ended: Sequence[tuple[NackItem, Target]]
) -> None:
    failed = [(item, target) for item, target in ended if item.failure is not None]
    earlier = await notes_of(transaction, [target.seq for _, target in failed if target.noted])
    await write_notes(
        transaction,
        {
            target.seq: Notes(item.failure, earlier.get(target.seq, NOTHING).progress)
            for item, target in failed
        },
    )


async def _report_progress(
    transaction: Transaction, live: Sequence[tuple[ExtendItem, Target]]
) -> set[int]:
    """Records what was reported; returns the jobs that have notes by it."""
    reported = [(item.progress, target) for item, target in live if item.progress is not None]
    notes = await notes_of(transaction, {target.seq for _, target in reported if target.noted})
    changed: dict[int, Notes] = {}
    for progress, target in reported:
        before = changed.get(target.seq) or notes.get(target.seq, NOTHING)
        changed[target.seq] = Notes(before.failure, progress.merged_into(before.progress))
    await write_notes(transaction, changed)
    return set(changed)
