"""Cancelling jobs by their ids."""

from collections.abc import Sequence

from towline_broker.domain.jobs import JobState, Settlement
from towline_broker.drivers.interface import CancelOutcome, CancelRequest
from towline_broker.drivers.sql.targets import (
    Memory,
    Target,
    free_keys,
    locked_by_id,
    remember,
    remove,
)
from towline_broker.drivers.sql.transaction import Transaction

_ENDED = "SELECT job_id, state FROM towline_settled WHERE job_id IN (?*) AND state IS NOT NULL"
_CANCEL = (
    "UPDATE towline_jobs SET state = 6, finished_at = ?, keep_until = ?, lease_grant = NULL,"
    " lease_until = NULL, worker_id = NULL, request_id = NULL WHERE seq = ?"
)


async def cancel(transaction: Transaction, request: CancelRequest) -> list[CancelOutcome]:
    # First the jobs, then the memory: one that is acknowledged meanwhile is found in the latter.
    stored = await locked_by_id(transaction, request.job_ids)
    remembered = await transaction.rows_of(
        _ENDED, [job_id for job_id in request.job_ids if job_id not in stored]
    )
    states = {job_id: JobState(state) for job_id, state in remembered}
    states.update((target.id, JobState(target.state)) for target in stored.values())
    live = [target for target in stored.values() if not JobState(target.state).ended]
    await _end(transaction, live, request)
    states.update((target.id, JobState.CANCELLED) for target in live)
    return [_outcome(states.get(job_id)) for job_id in request.job_ids]


def _outcome(state: JobState | None) -> CancelOutcome:
    """``state`` is that after the call: to cancel a cancelled job again changes nothing."""
    if state is None:
        return CancelOutcome.NOT_FOUND
    if state is JobState.CANCELLED:
        return CancelOutcome.CANCELLED
    return CancelOutcome.ALREADY_ENDED


async def _end(
    transaction: Transaction, cancelled: Sequence[Target], request: CancelRequest
) -> None:
    await remove(transaction, [target for target in cancelled if target.retention == 0])
    await transaction.change_many(
        _CANCEL,
        [
            (request.now, request.now + target.retention, target.seq)
            for target in cancelled
            if target.retention > 0
        ],
    )
    await remember(transaction, [_memory(transaction, target, request) for target in cancelled])
    await free_keys(transaction, cancelled, timed_too=True)
    for state in (JobState.SCHEDULED, JobState.READY, JobState.LEASED):
        kinds = [target.kind for target in cancelled if target.state == state]
        transaction.tally.move(kinds, out_of=state)
    transaction.tally.count("cancelled", [target.kind for target in cancelled])
    transaction.effects.ended.extend(target.id for target in cancelled)


def _memory(transaction: Transaction, target: Target, request: CancelRequest) -> Memory:
    leased = target.lease_grant is not None
    return Memory(
        target.id,
        target.lease_grant or "",
        Settlement.CANCELLED if leased else None,
        JobState.CANCELLED,
        transaction.names.of(target.kind).queue_id,
        request.now,
        request.remember_until,
    )
