"""Dead jobs: found by ids or by a filter, made READY again or removed."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import DeadFilter, DeadSelection, Handled
from towline_broker.drivers.sql import schema
from towline_broker.drivers.sql.targets import (
    Memory,
    Target,
    by_id,
    free_keys,
    locked_by_id,
    remember,
    remove,
    targets,
)
from towline_broker.drivers.sql.transaction import Reader, Transaction

_job, _kind, _queue = schema.jobs.c, schema.kinds.c, schema.queues.c
#: A literal, so that the planner sees the condition of the index of dead jobs.
_DEAD = sa.text("towline_jobs.state = 5")
#: The order of the deaths.
DEATHS = (_job.finished_at, _job.position)

_REQUEUE = (
    "UPDATE towline_jobs SET state = 2, attempt = 0, position = ?, available_at = ?,"
    " expires_at = NULL, finished_at = NULL, dead_reason = NULL WHERE seq = ?"
)


def kinds_of(queue: str | None, type_: str | None) -> sa.Select[tuple[int]]:
    """The kinds of a queue, of a type, or of both."""
    statement = sa.select(_kind.id)
    if queue is not None:
        statement = statement.join(schema.queues, _queue.id == _kind.queue)
        statement = statement.where(_queue.name == queue)
    if type_ is not None:
        statement = statement.where(_kind.type == type_)
    return statement


def dead_where(filter_: DeadFilter) -> list[sa.ColumnElement[bool] | sa.TextClause]:
    conditions: list[sa.ColumnElement[bool] | sa.TextClause] = [_DEAD]
    if filter_.queue is not None or filter_.type is not None:
        conditions.append(_job.kind.in_(kinds_of(filter_.queue, filter_.type)))
    if filter_.reason is not None:
        conditions.append(_job.dead_reason == int(filter_.reason))
    if filter_.dead_after is not None:
        conditions.append(_job.finished_at >= filter_.dead_after)
    if filter_.dead_before is not None:
        conditions.append(_job.finished_at < filter_.dead_before)
    return conditions


async def count_dead(reader: Reader, selection: DeadSelection) -> int:
    if selection.ids is not None:
        return len(_dead(await by_id(reader, selection.ids)))
    return await _count(reader, selection.filter)


async def requeue_dead(transaction: Transaction, selection: DeadSelection) -> Handled:
    matched, chosen = await _choose(transaction, selection)
    position = await transaction.sequence(len(chosen))
    await transaction.change_many(
        _REQUEUE,
        [(position + offset, selection.now, target.seq) for offset, target in enumerate(chosen)],
    )
    kinds = [target.kind for target in chosen]
    transaction.tally.move(kinds, out_of=JobState.DEAD, into=JobState.READY)
    transaction.tally.count("requeued", kinds)
    transaction.effects.ready.update(transaction.names.of(kind).queue for kind in kinds)
    return Handled(matched, len(chosen))


async def discard_dead(
    transaction: Transaction, selection: DeadSelection, remember_until: Micros
) -> Handled:
    matched, chosen = await _choose(transaction, selection)
    await remove(transaction, chosen)
    await free_keys(transaction, chosen, timed_too=True)
    await remember(
        transaction,
        [
            Memory(
                *(target.id, "", None, JobState.DEAD),
                transaction.names.of(target.kind).queue_id,
                *(target.finished_at, remember_until),
            )
            for target in chosen
        ],
    )
    transaction.tally.move([target.kind for target in chosen], out_of=JobState.DEAD)
    transaction.effects.ended.extend(target.id for target in chosen)
    return Handled(matched, len(chosen))


async def _choose(
    transaction: Transaction, selection: DeadSelection
) -> tuple[int, Sequence[Target]]:
    """How many dead jobs the selection meets, and those to be changed, oldest death first."""
    if selection.ids is not None:
        dead = _dead(await locked_by_id(transaction, selection.ids))
        return len(dead), dead[: selection.limit]
    statement = (
        sa.select(*(schema.jobs.c[name] for name in Target._fields))
        .where(*dead_where(selection.filter))
        .order_by(*DEATHS)
        .limit(selection.limit)
    )
    chosen = targets(await transaction.select_locked(statement))
    if len(chosen) < selection.limit:
        return len(chosen), chosen
    return await _count(transaction, selection.filter), chosen


def _dead(found: Mapping[str, Target]) -> list[Target]:
    dead = [target for target in found.values() if target.state == JobState.DEAD]
    return sorted(dead, key=lambda target: (target.finished_at, target.position))


async def _count(reader: Reader, filter_: DeadFilter) -> int:
    if filter_.reason is None and filter_.dead_after is None and filter_.dead_before is None:
        counter = schema.counters.c
        statement = sa.select(sa.func.coalesce(sa.func.sum(counter.dead), 0)).where(
            counter.kind.in_(kinds_of(filter_.queue, filter_.type))
        )
    else:
        statement = sa.select(sa.func.count()).select_from(schema.jobs).where(*dead_where(filter_))
    return int((await reader.select(statement))[0][0])
