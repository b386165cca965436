"""Queues as a whole: pausing, purging, counting."""

# ruff: noqa: S608 - statements are composed of constants of this module

from collections.abc import Sequence

from towline_broker.domain.errors import QueueNotFound
from towline_broker.domain.jobs import Counts, Depth, JobState, Totals
from towline_broker.domain.pieces import pieces
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Handled, PurgeRequest, QueueState
from towline_broker.drivers.sql.tally import COUNTERS, DEPTHS, TOTALS
from towline_broker.drivers.sql.targets import (
    TARGET,
    Memory,
    Target,
    free_keys,
    remember,
    remove,
    targets,
)
from towline_broker.drivers.sql.transaction import Reader, Row, Transaction

_QUEUES = "SELECT name, paused, moving_to, moved FROM towline_queues ORDER BY name"
_QUEUE = "SELECT id, paused FROM towline_queues WHERE name = ?"
_SET_PAUSED = "UPDATE towline_queues SET paused = ? WHERE id = ? AND paused <> ?"
_SUMS = ", ".join(f"SUM(c.{name})" for name in COUNTERS)
_COUNTED = (
    "FROM towline_counters c JOIN towline_kinds k ON k.id = c.kind"
    " JOIN towline_queues q ON q.id = k.queue"
)
_COUNTS = f"SELECT q.name, k.type, {_SUMS} {_COUNTED} GROUP BY q.name, k.type ORDER BY 1, 2"
_DEPTHS = f"SELECT SUM(c.scheduled), SUM(c.ready) {_COUNTED} WHERE q.id = ?"
_WITH_READY = f"SELECT q.id, q.name {_COUNTED} GROUP BY q.id, q.name HAVING SUM(c.ready) > 0"
_RESET = f"UPDATE towline_counters SET {', '.join(f'{name} = 0' for name in TOTALS)}"
#: The head of the line of the highest priority up to one.
HEAD_OF_LINE = (
    "SELECT priority, available_at FROM towline_jobs"
    " WHERE queue = ? AND state = 2 AND priority <= ? ORDER BY priority DESC, position LIMIT 1"
)
READY_OF_QUEUE = f"SELECT {TARGET} FROM towline_jobs WHERE queue = ? AND state = 2 LIMIT ?"
SCHEDULED_OF_QUEUE = f"SELECT {TARGET} FROM towline_jobs WHERE queue = ? AND state = 1 LIMIT ?"

_LOWEST_PRIORITY, _HIGHEST_PRIORITY = -(1 << 31), (1 << 31) - 1


async def queues(reader: Reader) -> list[QueueState]:
    return [
        QueueState(name, bool(paused), moving_to, bool(moved))
        for name, paused, moving_to, moved in await reader.rows(_QUEUES)
    ]


async def set_paused(transaction: Transaction, queue: str, paused: bool) -> bool:
    queue_id, _ = await _queue(transaction, queue)
    if not await transaction.change(_SET_PAUSED, int(paused), queue_id, int(paused)):
        return False
    if not paused:
        _, ready = await _depths(transaction, queue_id)
        if ready:
            transaction.effects.ready[queue] += ready
    return True


async def purge(transaction: Transaction, request: PurgeRequest) -> Handled:
    queue_id, _ = await _queue(transaction, request.queue)
    matched = sum(await _depths(transaction, queue_id))
    chosen = targets(await transaction.locked(READY_OF_QUEUE, queue_id, request.limit))
    left = request.limit - len(chosen)
    if left > 0:
        chosen += targets(await transaction.locked(SCHEDULED_OF_QUEUE, queue_id, left))
    await cancel_waiting(transaction, chosen, request.now, request.remember_until)
    return Handled(matched, len(chosen))


async def cancel_waiting(
    transaction: Transaction, gone: Sequence[Target], now: Micros, remember_until: Micros
) -> None:
    """Removes SCHEDULED and READY jobs, to be remembered as CANCELLED."""
    await remove(transaction, gone)
    await free_keys(transaction, gone, timed_too=True)
    names = transaction.names
    await remember(
        transaction,
        [
            Memory(
                *(target.id, "", None, JobState.CANCELLED),
                names.of(target.kind).queue_id,
                *(now, remember_until),
            )
            for target in gone
        ],
    )
    for state in (JobState.SCHEDULED, JobState.READY):
        kinds = [target.kind for target in gone if target.state == state]
        transaction.tally.move(kinds, out_of=state)
    transaction.tally.count("cancelled", [target.kind for target in gone])
    transaction.effects.ended.extend(target.id for target in gone)


async def counts(reader: Reader) -> Sequence[Row]:
    """For :func:`counted`."""
    return await reader.rows(_COUNTS)


async def counted(rows: Sequence[Row]) -> list[Counts]:
    """There can be many: other calls come in between."""
    return [
        Counts(queue, type_, _depth(numbers), _totals(numbers))
        async for piece in pieces(rows)
        for queue, type_, *numbers in piece
    ]


def _depth(numbers: Sequence[int]) -> Depth:
    return Depth(*map(int, numbers[: len(DEPTHS)]))


def _totals(numbers: Sequence[int]) -> Totals:
    return Totals(*map(int, numbers[len(DEPTHS) :]))


async def oldest_ready(reader: Reader) -> dict[str, Micros]:
    return {
        queue: min(await _heads_of_lines(reader, queue_id))
        for queue_id, queue in await reader.rows(_WITH_READY)
    }


async def reset_totals(transaction: Transaction) -> None:
    await transaction.change(_RESET)


async def _queue(reader: Reader, name: str) -> Sequence[int]:
    rows = await reader.rows(_QUEUE, name)
    if not rows:
        raise QueueNotFound(name)
    return rows[0]


async def _depths(reader: Reader, queue_id: int) -> tuple[int, int]:
    """How many jobs of a queue are SCHEDULED and READY."""
    scheduled, ready = (await reader.rows(_DEPTHS, queue_id))[0]
    return int(scheduled or 0), int(ready or 0)


async def _heads_of_lines(reader: Reader, queue_id: int) -> list[Micros]:
    """Since when the first job of each priority is READY.

    It is the one READY for longest of its priority, for places are given in order of time (but to
    jobs that another store has sent, which stand behind younger ones).
    """
    since = []
    below = _HIGHEST_PRIORITY
    while below >= _LOWEST_PRIORITY:
        rows = await reader.rows(HEAD_OF_LINE, queue_id, below)
        if not rows:
            break
        priority, ready_at = rows[0]
        since.append(ready_at)
        below = priority - 1
    return since
