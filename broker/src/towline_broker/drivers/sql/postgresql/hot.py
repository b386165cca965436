"""The hot calls in the words of PostgreSQL (``sql/shared/hot.py``).

Each statement has few parameters, and none for what all jobs of a call have in common: the client
takes about as long to encode a number of an array as the server to store it. Between two statements
of one transaction there is a round trip of both, some 80 µs of processor time.
"""

from collections.abc import Sequence
from typing import Any

from asyncpg import Connection

from towline_broker.domain.jobs import LeaseRef
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import ReserveRequest
from towline_broker.drivers.sql.shared.hot import Claimed, Ended, Line, Shape

#: ``ORDER BY``: two that store the same ids do not wait for each other in a circle. (Without ON
#: CONFLICT, which takes two fifths more time.)
_INSERT = (
    "WITH place AS MATERIALIZED (SELECT nextval('towline_sequence') AS first),"
    " inserted AS (INSERT INTO towline_jobs (seq, id, queue, kind, priority, state, position,"
    " attempt, releases, enqueued_at, available_at, retention, retry, noted)"
    " SELECT place.first + v.n - 1, v.id, $2::int, $3::int, $4::int, 2, place.first + v.n - 1,"
    " 0, 0, $5::bigint, $5::bigint, $6::bigint, $7::text, 0"
    " FROM place, unnest($1::varchar[]) WITH ORDINALITY AS v(id, n){order})"
    " SELECT first FROM place"
)
INSERT, INSERT_IN_ORDER = _INSERT.format(order=""), _INSERT.format(order=" ORDER BY v.id")
FILL = (
    "WITH filled AS (INSERT INTO towline_envelopes (seq, body)"
    " SELECT $1::bigint + v.n - 1, v.body FROM unnest($2::bytea[]) WITH ORDINALITY AS v(body, n))"
    " SELECT NOT EXISTS (SELECT FROM towline_settled WHERE job_id = ANY($3::varchar[])"
    " AND state IS NOT NULL)"
    " AND NOT EXISTS (SELECT FROM towline_queues WHERE id = $4::int AND moved = 1)"
)
#: The rows are looked up by an array: joined, they would be by a plan that degrades when many jobs
#: have come and gone.
CLAIM = (
    "WITH found AS MATERIALIZED (SELECT seq, position, attempt, expires_at,"
    " (SELECT octet_length(body) FROM towline_envelopes e WHERE e.seq = towline_jobs.seq) AS size"
    " FROM towline_jobs WHERE queue = $1::int AND state = 2 AND priority = $2::int"
    " AND position >= $3::bigint"
    " AND (SELECT paused = 0 AND moving_to = '' FROM towline_queues WHERE id = $1::int)"
    " AND NOT EXISTS (SELECT FROM towline_lines WHERE queue = $1::int AND priority <> $2::int)"
    " AND NOT EXISTS (SELECT FROM towline_jobs WHERE request_id = $4::varchar AND state = 3)"
    " ORDER BY position LIMIT $5::int FOR UPDATE SKIP LOCKED),"
    " wanted AS (SELECT seq FROM (SELECT seq, sum(size) OVER (ORDER BY position"
    " ROWS UNBOUNDED PRECEDING) - size AS before FROM found) sized"
    " WHERE before < $6::bigint AND NOT EXISTS (SELECT FROM found WHERE attempt = 0"
    " AND expires_at <= $7::bigint))"
    " UPDATE towline_jobs SET state = 3, attempt = attempt + 1, lease_grant = $8::varchar,"
    " lease_until = $9::bigint, lease_length = $10::bigint, worker_id = $11::varchar,"
    " request_id = $4::varchar, started_at = $7::bigint"
    " WHERE seq = ANY(ARRAY(SELECT seq FROM wanted))"
    " RETURNING seq, priority, position, id, kind, attempt, enqueued_at, available_at, noted,"
    " (SELECT body FROM towline_envelopes e WHERE e.seq = towline_jobs.seq),"
    " (SELECT count(*) FROM found)"
)
#: For several calls that want one job each: the first gets the first, and so on. No job looked at
#: may be too old for the latest of them.
_CLAIM_EACH = (
    "WITH found AS MATERIALIZED (SELECT seq, position, attempt, expires_at"
    " FROM towline_jobs WHERE queue = $1::int AND state = 2 AND priority = $2::int"
    " AND position >= $3::bigint"
    " AND (SELECT paused = 0 AND moving_to = '' FROM towline_queues WHERE id = $1::int)"
    " AND NOT EXISTS (SELECT FROM towline_lines WHERE queue = $1::int AND priority <> $2::int)"
    " AND NOT EXISTS (SELECT FROM towline_jobs"
    " WHERE request_id = ANY($4::varchar[]) AND +state = 3)"
    " ORDER BY position LIMIT cardinality($4::varchar[]) FOR UPDATE SKIP LOCKED),"
    " wanted AS MATERIALIZED (SELECT array_agg(seq ORDER BY position) AS seqs FROM found"
    " WHERE NOT EXISTS (SELECT FROM found WHERE attempt = 0 AND expires_at <= $5::bigint))"
    " UPDATE towline_jobs SET state = 3, attempt = attempt + 1, started_at = ($6::bigint[]){its},"
    " lease_grant = ($7::varchar[]){its}, lease_until = ($8::bigint[]){its},"
    " lease_length = ($9::bigint[]){its}, worker_id = ($10::varchar[]){its},"
    " request_id = ($4::varchar[]){its}"
    " WHERE seq = ANY((SELECT seqs FROM wanted)::bigint[])"
    " RETURNING seq, priority, position, id, kind, attempt, enqueued_at, available_at, noted,"
    " (SELECT body FROM towline_envelopes e WHERE e.seq = towline_jobs.seq), 1"
)
CLAIM_EACH = _CLAIM_EACH.format(its="[array_position((SELECT seqs FROM wanted), seq)]")
_FINISH = (
    "WITH gone AS (DELETE FROM towline_jobs j USING unnest({leases}) WHERE j.id = v.id"
    " AND +j.state = 3 AND j.lease_grant = {grant} AND j.retention = 0 AND j.unique_key IS NULL"
    " AND j.noted = 0 RETURNING j.seq, j.id, j.lease_grant, j.queue, j.kind, j.started_at),"
    " emptied AS (DELETE FROM towline_envelopes WHERE seq = ANY(ARRAY(SELECT seq FROM gone))),"
    " remembered AS (INSERT INTO towline_settled (job_id, lease_grant, settlement, state, queue,"
    " finished_at, remember_until)"
    " SELECT id, lease_grant, 1, 4, queue, $3::bigint, $4::bigint FROM gone)"
    " SELECT id, lease_grant, kind, started_at FROM gone"
)
FINISH = _FINISH.format(leases="$1::varchar[]) AS v(id", grant="$2::varchar")
FINISH_SEVERAL = _FINISH.format(
    leases="$1::varchar[], $2::varchar[]) AS v(id, granted", grant="v.granted"
)
#: Stands for no bound in bytes.
_NO_BOUND = (1 << 63) - 1


class PostgresHot:
    """See :class:`towline_broker.drivers.sql.shared.hot.Hot`."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def insert(self, shape: Shape, ids: Sequence[str], now: Micros) -> int:
        kind = shape.kind
        sql = INSERT if all(map(str.__lt__, ids, ids[1:])) else INSERT_IN_ORDER
        first: int = await self._connection.fetchval(
            sql, ids, kind.queue_id, kind.id, shape.priority, now, shape.retention, shape.retry
        )
        return first

    async def fill(
        self, shape: Shape, first: int, ids: Sequence[str], envelopes: Sequence[bytes]
    ) -> bool:
        stays: bool = await self._connection.fetchval(
            FILL, first, envelopes, ids, shape.kind.queue_id
        )
        return stays

    async def claim(
        self, line: Line, mark: int, until: Micros, request: ReserveRequest
    ) -> Sequence[Claimed]:
        rows = await self._connection.fetch(
            CLAIM,
            *(line.queue, line.priority, mark, request.request_id or None, request.max_jobs),
            *(_NO_BOUND if request.max_bytes is None else request.max_bytes, request.now),
            *(request.grant, until, request.lease, request.worker_id or None),
        )
        claimed = [Claimed._make(row) for row in rows]
        claimed.sort(key=_position)
        return claimed

    async def claim_each(
        self, line: Line, mark: int, requests: Sequence[ReserveRequest]
    ) -> Sequence[Claimed]:
        nows = [request.now for request in requests]
        rows = await self._connection.fetch(
            CLAIM_EACH,
            *(line.queue, line.priority, mark),
            [request.request_id or None for request in requests],
            *(max(nows), nows),
            [request.grant for request in requests],
            [request.now + request.lease for request in requests],
            [request.lease for request in requests],
            [request.worker_id or None for request in requests],
        )
        claimed = [Claimed._make(row) for row in rows]
        claimed.sort(key=_position)
        return claimed

    async def finish(
        self, refs: Sequence[LeaseRef], now: Micros, remember_until: Micros
    ) -> Sequence[Ended]:
        # In the order in which everybody locks jobs.
        refs = sorted(refs, key=_job_id)
        ids = [ref.job_id for ref in refs]
        grants = [ref.grant for ref in refs]
        if len(set(grants)) == 1:
            rows = await self._connection.fetch(FINISH, ids, grants[0], now, remember_until)
        else:
            rows = await self._connection.fetch(FINISH_SEVERAL, ids, grants, now, remember_until)
        return [Ended._make(row) for row in rows]


def _position(claimed: Claimed) -> int:
    return claimed.position


def _job_id(ref: LeaseRef) -> str:
    return ref.job_id
