"""Looking at jobs: one, or page by page."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from towline_broker.domain.errors import InvalidField
from towline_broker.domain.jobs import DeadReason, JobPage, JobRecord, JobState
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import DeadQuery, JobQuery
from towline_broker.drivers.sql import schema
from towline_broker.drivers.sql.dead_letters import DEATHS, dead_where, kinds_of
from towline_broker.drivers.sql.notes import NOTHING, notes_of
from towline_broker.drivers.sql.transaction import Reader

#: Most jobs that one call of ``list_jobs`` looks at.
SCAN_LIMIT = 10_000


class _Stored(NamedTuple):
    seq: int
    id: str
    queue: str
    type: str
    envelope: bytes
    priority: int
    state: int
    position: int
    attempt: int
    releases: int
    enqueued_at: Micros
    available_at: Micros
    noted: int
    started_at: Micros | None
    lease_until: Micros | None
    worker_id: str | None
    finished_at: Micros | None
    dead_reason: int | None
    result: bytes | None


_STORED = (
    "SELECT j.seq, j.id, q.name, k.type, e.body, j.priority, j.state, j.position, j.attempt,"
    " j.releases, j.enqueued_at, j.available_at, j.noted, j.started_at, j.lease_until,"
    " j.worker_id, j.finished_at, j.dead_reason, j.result"
    " FROM towline_jobs j JOIN towline_kinds k ON k.id = j.kind"
    " JOIN towline_queues q ON q.id = k.queue JOIN towline_envelopes e ON e.seq = j.seq"
)
_BY_ID = f"{_STORED} WHERE j.id = ?"
_BY_SEQ = f"{_STORED} WHERE j.seq IN (?*)"
_REMEMBERED = (
    "SELECT s.job_id, q.name, s.state, s.result, s.finished_at FROM towline_settled s"
    " JOIN towline_queues q ON q.id = s.queue WHERE s.job_id = ? AND s.state IS NOT NULL"
)
_job = schema.jobs.c
#: Every one of these fits into the integers of the database.
_NUMBER = re.compile(r"[0-9]{1,18}")


async def get(reader: Reader, job_id: str) -> JobRecord | None:
    rows = await reader.rows(_BY_ID, job_id)
    if rows:
        return (await _records(reader, [_Stored._make(rows[0])]))[0]
    remembered = await reader.rows(_REMEMBERED, job_id)
    if not remembered:
        return None
    id_, queue, state, result, finished_at = remembered[0]
    return JobRecord.remembered(id_, queue, JobState(state), finished_at, result or b"")


async def list_jobs(reader: Reader, query: JobQuery) -> JobPage:
    """Walks along the order of the pushes, at most ``SCAN_LIMIT`` jobs a call."""
    after = -1 if query.cursor is None else numbers_of(query.cursor, 1)[0]
    window = (
        sa.select(_job.seq).where(_job.seq > after).order_by(_job.seq).limit(SCAN_LIMIT).subquery()
    )
    ((seen, last),) = await reader.select(sa.select(sa.func.count(), sa.func.max(window.c.seq)))
    if not seen:
        return JobPage([])
    statement = sa.select(_job.seq).where(_job.seq > after, _job.seq <= last)
    if query.queue is not None or query.type is not None:
        statement = statement.where(_job.kind.in_(kinds_of(query.queue, query.type)))
    if query.states:
        statement = statement.where(_job.state.in_([int(state) for state in query.states]))
    found = await reader.select(statement.order_by(_job.seq).limit(query.limit + 1))
    page = [row[0] for row in found[: query.limit]]
    records = await records_of(reader, page)
    if len(found) > query.limit:
        return JobPage(records, str(page[-1]))
    return JobPage(records, str(last) if seen == SCAN_LIMIT else None)


async def list_dead(reader: Reader, query: DeadQuery) -> JobPage:
    statement = sa.select(_job.seq, *DEATHS).where(*dead_where(query.filter))
    if query.cursor is not None:
        after = numbers_of(query.cursor, 2)
        statement = statement.where(sa.tuple_(*DEATHS) > sa.tuple_(*after))
    found = await reader.select(statement.order_by(*DEATHS).limit(query.limit + 1))
    page = found[: query.limit]
    records = await records_of(reader, [row[0] for row in page])
    more = len(found) > query.limit
    return JobPage(records, f"{page[-1][1]}.{page[-1][2]}" if more else None)


def numbers_of(cursor: str, count: int) -> list[int]:
    parts = cursor.split(".")
    if len(parts) != count or not all(_NUMBER.fullmatch(part) for part in parts):
        raise InvalidField("page_token", "is not one that this store gave out")
    return [int(part) for part in parts]


async def records_of(reader: Reader, seqs: Sequence[int]) -> list[JobRecord]:
    """The records of these jobs, in this order."""
    rows = {row[0]: _Stored._make(row) for row in await reader.rows_of(_BY_SEQ, seqs)}
    return await _records(reader, [rows[seq] for seq in seqs])


async def _records(reader: Reader, stored: Sequence[_Stored]) -> list[JobRecord]:
    notes = await notes_of(reader, [job.seq for job in stored if job.noted])
    records = []
    for job in stored:
        state = JobState(job.state)
        waits = state in (JobState.SCHEDULED, JobState.READY)
        failure, progress = notes.get(job.seq, NOTHING)
        records.append(
            JobRecord(
                *(job.id, job.queue, job.type, job.envelope, job.priority, state, job.attempt),
                job.enqueued_at,
                available_at=job.available_at if waits else None,
                started_at=job.started_at,
                finished_at=job.finished_at,
                lease_until=job.lease_until,
                worker_id=job.worker_id or "",
                releases=job.releases,
                failure=failure,
                progress=progress,
                dead_reason=None if job.dead_reason is None else DeadReason(job.dead_reason),
                result=job.result or b"",
            )
        )
    return records
