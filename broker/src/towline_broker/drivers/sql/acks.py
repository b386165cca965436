"""Ending leases with success, as most end: hence only what that needs is read and made."""

from collections.abc import Sequence

from towline_broker.domain.jobs import JobState, LeaseRef, Settlement
from towline_broker.drivers.interface import AckBatch, AckItem, Settled
from towline_broker.drivers.sql.names import Kind
from towline_broker.drivers.sql.settles import with_memory
from towline_broker.drivers.sql.targets import free_keys_of, remember, remove_rows
from towline_broker.drivers.sql.transaction import Raced, Row, Transaction

#: Locked as by ``targets.leased``, which says why.
HELD = (
    "SELECT id, lease_grant, kind, seq, started_at, retention, unique_key, noted"
    " FROM towline_jobs WHERE id IN (?*) AND +state = 3"
)
_SUCCEED = (
    "UPDATE towline_jobs SET state = 4, finished_at = ?, keep_until = ?, result = ?,"
    " lease_grant = NULL, lease_until = NULL, worker_id = NULL, request_id = NULL WHERE seq = ?"
)


async def ack(transaction: Transaction, batch: AckBatch) -> list[Settled]:
    refs = [item.ref for item in batch.acks]
    rows = await transaction.held(HELD, list(dict.fromkeys([ref.job_id for ref in refs])))
    ended = _Ended(batch)
    kind = None
    if len(rows) > 1 and not transaction.shared:  # shared stores have ``shared/hot.py`` for these
        kind = _kind_of_all(transaction, batch, refs, rows)
    if kind is not None:
        together = ended.add_all(kind, rows)
        await ended.write(transaction)
        return together
    held = {row[0]: row for row in rows}
    answers: list[Settled | None] = []
    for item in batch.acks:
        queue, job_id, grant = item.ref
        row = held.get(job_id)
        if row is None or row[1] != grant:
            answers.append(None)
            continue
        kind = transaction.names.of(row[2])
        if kind.queue != queue:
            answers.append(None)
            continue
        # Taken out, so that a lease named twice in a call ends once.
        del held[job_id]
        answers.append(ended.add(item, kind, row))
    await ended.write(transaction)
    return await with_memory(transaction, refs, answers)


def _kind_of_all(
    transaction: Transaction, batch: AckBatch, refs: Sequence[LeaseRef], rows: Sequence[Row]
) -> Kind | None:
    """That of the jobs, if the leases are alike: all live, of one kind and one grant, and the jobs
    without results, retention, unique keys and notes, as those of one Reserve mostly are."""
    if len(rows) != len(refs):
        return None
    # The rows are of jobs that the refs name, once each: as many rows are all of them.
    queues, _, grants = zip(*refs, strict=True)
    _, held_grants, numbers, _, starts, retentions, keys, noted = zip(*rows, strict=True)
    grant, number, started_at = held_grants[0], numbers[0], starts[0]
    kind = transaction.names.of(number)
    whole = len(rows)
    alike = (
        queues.count(kind.queue) == grants.count(grant) == held_grants.count(grant) == whole
        and numbers.count(number) == starts.count(started_at) == whole
        and keys.count(None) == whole
        and not any(retentions)
        and not any(noted)
        and not any(item.result for item in batch.acks)
    )
    return kind if alike else None


class _Ended:
    """The leases that a call ends, and what is to be written of them."""

    def __init__(self, batch: AckBatch) -> None:
        self._batch = batch
        #: Numbers of the jobs that go.
        self._gone: list[int] = []
        self._gone_noted: list[int] = []
        #: Parameters of ``_SUCCEED``, for those that are kept.
        self._kept: list[tuple[object, ...]] = []
        self._memories: list[tuple[object, ...]] = []
        self._keys: list[tuple[object, ...]] = []
        self._kinds: list[int] = []
        self._ids: list[str] = []

    def add(self, item: AckItem, kind: Kind, row: Row) -> Settled:
        job_id, grant, _, seq, started_at, retention, unique_key, noted = row
        now, result = self._batch.now, item.result or None
        if retention > 0:
            self._kept.append((now, now + retention, result, seq))
        else:
            self._gone.append(seq)
            if noted:
                self._gone_noted.append(seq)
        self._memories.append(
            (
                *(job_id, grant, Settlement.ACKED, JobState.SUCCEEDED, kind.queue_id),
                *(now, self._batch.remember_until, result),
            )
        )
        if unique_key is not None:
            self._keys.append((unique_key, kind.queue_id, job_id))
        self._kinds.append(kind.id)
        self._ids.append(job_id)
        return Settled(True, None, kind.type, now - (started_at or now))

    def add_all(self, kind: Kind, rows: Sequence[Row]) -> list[Settled]:
        """The same as ``add`` of each, for jobs that are alike (``_kind_of_all``)."""
        _, grant, _, _, started_at, *_ = rows[0]
        now, until = self._batch.now, self._batch.remember_until
        queue = kind.queue_id
        self._ids = [row[0] for row in rows]
        self._gone = [row[3] for row in rows]
        self._kinds = [kind.id] * len(rows)
        acked, succeeded = Settlement.ACKED, JobState.SUCCEEDED
        self._memories = [
            (job_id, grant, acked, succeeded, queue, now, until, None) for job_id in self._ids
        ]
        return [Settled(True, None, kind.type, now - (started_at or now))] * len(rows)

    async def write(self, transaction: Transaction) -> None:
        if not self._ids:
            return
        removed = await remove_rows(transaction, self._gone, self._gone_noted)
        if removed != len(self._gone) and not transaction.shared:
            raise Raced  # whatever was held in memory, it was not what is stored
        await transaction.change_many(_SUCCEED, self._kept)
        await remember(transaction, self._memories)
        await free_keys_of(transaction, self._keys, timed_too=False)
        transaction.tally.move(self._kinds, out_of=JobState.LEASED)
        transaction.tally.count("completed", self._kinds)
        transaction.effects.ended.extend(self._ids)
