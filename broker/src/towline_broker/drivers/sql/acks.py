"""Ending leases with success, as most end: hence only what that needs is read and made."""

from towline_broker.domain.jobs import JobState, Settlement
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
    held = {row[0]: row for row in rows}
    ended = _Ended(batch)
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
