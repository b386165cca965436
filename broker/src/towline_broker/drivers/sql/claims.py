"""Granting leases, and looking at them."""

# ruff: noqa: S608 - statements are composed of constants of this module

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from towline_broker.domain.jobs import JobState, Leased, LeaseRecord, LeaseRef
from towline_broker.domain.retry import RetryPolicy
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import ReserveRequest
from towline_broker.drivers.sql.names import Kind
from towline_broker.drivers.sql.notes import NOTHING, Notes, notes_of
from towline_broker.drivers.sql.targets import by_id, die_of_age
from towline_broker.drivers.sql.transaction import Reader, Row, Transaction


class _Candidate(NamedTuple):
    seq: int
    priority: int
    position: int
    id: str
    kind: int
    attempt: int
    enqueued_at: Micros
    available_at: Micros
    expires_at: Micros | None
    noted: int
    retention: Micros
    unique_key: str | None
    envelope: bytes


_KIND = _Candidate._fields.index("kind")
_NOTED = _Candidate._fields.index("noted")
_EXPIRES_AT = _Candidate._fields.index("expires_at")
_COLUMNS = ", ".join(_Candidate._fields[:-1])
_ENVELOPE = "(SELECT body FROM towline_envelopes e WHERE e.seq = towline_jobs.seq)"
CANDIDATE = f"SELECT {_COLUMNS}, {_ENVELOPE} FROM towline_jobs"
_ENVELOPES = "SELECT seq, body FROM towline_envelopes WHERE seq IN (?*)"
OF_REQUEST = (
    f"SELECT lease_grant, lease_until, {_COLUMNS}, {_ENVELOPE} FROM towline_jobs"
    " WHERE request_id = ? AND state = 3"
)
#: Jobs that a Reserve with a bound in bytes reads at first.
FIRST_PORTION = 100
_QUEUES = (
    "SELECT q.name, q.id, l.priority FROM towline_queues q"
    " LEFT JOIN towline_lines l ON l.queue = q.id WHERE q.name IN (?*)"
    " AND q.paused = 0 AND q.moving_to = ''"
)
_LEASE = (
    "UPDATE towline_jobs SET state = 3, attempt = attempt + 1, lease_grant = ?, lease_until = ?,"
    " lease_length = ?, worker_id = ?, request_id = ?, started_at = ? WHERE seq IN (?*)"
)
_LIVE_LEASE = (
    "SELECT q.name, j.id, j.lease_grant, k.type, j.attempt, j.lease_until, j.retry"
    " FROM towline_jobs j JOIN towline_kinds k ON k.id = j.kind"
    " JOIN towline_queues q ON q.id = k.queue"
)
LEASES_BY_ID = f"{_LIVE_LEASE} WHERE j.id IN (?*) AND +j.state = 3"
LEASES_PAST = (
    f"{_LIVE_LEASE} WHERE j.state = 3 AND j.lease_until >= ? AND j.lease_until <= ?"
    " ORDER BY j.lease_until LIMIT ?"
)


async def reserve(transaction: Transaction, request: ReserveRequest) -> list[Leased]:
    if request.request_id:
        granted = await _granted_before(transaction, request)
        if granted:
            return granted
    queues: dict[str, _Queue] = {}
    for name, queue_id, priority in await transaction.rows_of(_QUEUES, request.queues):
        queue = queues.setdefault(name, _Queue(name, queue_id, []))
        if priority is not None:
            queue.priorities.append(priority)
    leased: list[Leased] = []
    room = _Room(request.max_jobs, request.max_bytes)
    for name in dict.fromkeys(request.queues):
        if room and name in queues:
            leased += await _reserve_from(transaction, queues[name], room, request)
    return leased


async def reserve_more(
    transaction: Transaction,
    request: ReserveRequest,
    line: tuple[str, int, int],
    leased: Sequence[Leased],
) -> list[Leased]:
    """What a queue has beyond what was just leased for the request. ``line``: its name, its number
    and its only priority."""
    name, queue_id, priority = line
    size = request.max_bytes
    if size is not None:
        size -= sum(len(one.envelope) for one in leased)
    room = _Room(request.max_jobs - len(leased), size)
    return await _reserve_from(transaction, _Queue(name, queue_id, [priority]), room, request)


class _Queue(NamedTuple):
    name: str
    id: int
    #: In any order.
    priorities: list[int]


class _Room:
    """What is left of the bounds of one call."""

    def __init__(self, jobs: int, size: int | None) -> None:
        self.jobs = jobs
        self._bytes = size
        #: Jobs to be read at once: they may be large, so not many before that is known.
        self._portion = jobs if size is None else FIRST_PORTION

    def __bool__(self) -> bool:
        return self.jobs > 0 and (self._bytes is None or self._bytes > 0)

    def next_portion(self) -> int:
        portion = min(self._portion, self.jobs)
        self._portion *= 4
        return portion

    def take(self, candidates: Sequence[Row], now: Micros) -> tuple[Sequence[Row], Sequence[Row]]:
        """Those that can be leased, as far as there is room, and before the last of them those that
        are too old. All of them are of the columns of ``_Candidate``."""
        if self._take_all(candidates):
            return candidates, ()
        return self._take_each(map(_Candidate._make, candidates), now)

    def _take_all(self, candidates: Sequence[Row]) -> bool:
        """False, having taken none, unless it is plain that all fit and none is too old."""
        # More than there is room for are never looked at (``next_portion``).
        if [row for row in candidates if row[_EXPIRES_AT] is not None]:
            return False
        if self._bytes is not None:
            size = sum([len(row[-1]) for row in candidates])
            if size >= self._bytes:
                return False
            self._bytes -= size
        self.jobs -= len(candidates)
        return True

    def _take_each(
        self, candidates: Iterable[_Candidate], now: Micros
    ) -> tuple[list[_Candidate], list[_Candidate]]:
        fresh: list[_Candidate] = []
        expired: list[_Candidate] = []
        jobs, left = self.jobs, self._bytes
        for candidate in candidates:
            if not jobs or (left is not None and left <= 0):
                break
            expires_at = candidate.expires_at
            if expires_at is not None and expires_at <= now and candidate.attempt == 0:
                expired.append(candidate)
                continue
            fresh.append(candidate)
            jobs -= 1
            if left is not None:
                left -= len(candidate.envelope)
        self.jobs, self._bytes = jobs, left
        return fresh, expired


async def _reserve_from(
    transaction: Transaction, queue: _Queue, room: _Room, request: ReserveRequest
) -> list[Leased]:
    leased: list[Leased] = []
    priorities = sorted(queue.priorities, reverse=True)
    while room:
        limit = room.next_portion()
        rows = await transaction.next_ready(CANDIDATE, queue.id, priorities, limit)
        fresh, expired = room.take(await _whole(transaction, rows), request.now)
        looked_at = len(fresh) + len(expired)
        if looked_at < len(rows):
            transaction.left_ready(queue.name, rows[looked_at:])
        if fresh:
            leased += await _lease(transaction, fresh, request)
        if expired:
            ids = [candidate.id for candidate in map(_Candidate._make, expired)]
            found = await by_id(transaction, ids)
            dying = [found[job_id] for job_id in ids]
            await die_of_age(transaction, dying, request.now)
        if len(rows) < limit:
            break
    return leased


async def _whole(transaction: Transaction, rows: Sequence[Row]) -> Sequence[Row]:
    """With their envelopes.

    MySQL locks what is newest, but looks up the envelope as of the begin of the statement: that of
    a job which was committed in between it does not see before the next statement.
    """
    unseen = [row[0] for row in rows if row[-1] is None]
    if unseen:
        found = await transaction.rows_of(_ENVELOPES, unseen)
        seen: dict[int, bytes] = {row[0]: row[1] for row in found}
        rows = [(*row[:-1], seen.get(row[0], row[-1])) for row in rows]
    return rows


async def _lease(
    transaction: Transaction, candidates: Sequence[Row], request: ReserveRequest
) -> list[Leased]:
    """``candidates``: rows of the columns of ``_Candidate``, which are many, and are taken apart as
    they are."""
    grant, now = request.grant, request.now
    until = now + request.lease
    transaction.heads.appeared("leases", until)
    await transaction.change_of(
        _LEASE,
        [row[0] for row in candidates],
        *(grant, until, request.lease, request.worker_id or None),
        *(request.request_id or None, now),
    )
    numbers = [row[_KIND] for row in candidates]
    transaction.tally.move(numbers, out_of=JobState.READY, into=JobState.LEASED)
    transaction.tally.count("started", numbers)
    noted = [row[0] for row in candidates if row[_NOTED]]
    notes = await notes_of(transaction, noted) if noted else {}
    kinds = {number: transaction.names.of(number) for number in set(numbers)}
    if not transaction.shared:
        transaction.note_held(
            [
                (job_id, grant, kind, seq, now, retention, key, has_notes)
                for seq, _, _, job_id, kind, _, _, _, _, has_notes, retention, key, _ in candidates
            ]
        )
    if notes:
        return [
            _leased(kinds[c.kind], c, grant, until, c.attempt + 1, notes)
            for c in map(_Candidate._make, candidates)
        ]
    return [
        Leased(
            LeaseRef(kinds[kind].queue, job_id, grant),
            *(kinds[kind].type, envelope, attempt + 1, until, enqueued_at, available_at),
        )
        for _, _, _, job_id, kind, attempt, enqueued_at, available_at, _, _, _, _, envelope in (
            candidates
        )
    ]


async def _granted_before(transaction: Transaction, request: ReserveRequest) -> list[Leased]:
    """The live leases that an earlier call of this id was granted, in the order it had."""
    rows = await transaction.rows(OF_REQUEST, request.request_id)
    found = [(_Candidate._make(row), grant, until) for grant, until, *row in rows]
    place = {queue: index for index, queue in reversed(list(enumerate(request.queues)))}
    of = transaction.names.of
    found.sort(
        key=lambda one: (
            place.get(of(one[0].kind).queue, len(place)),
            *(-one[0].priority, one[0].position),
        )
    )
    notes = await notes_of(transaction, [c.seq for c, _, _ in found if c.noted])
    return [_leased(of(c.kind), c, grant, until, c.attempt, notes) for c, grant, until in found]


def _leased(
    kind: Kind,
    candidate: _Candidate,
    grant: str,
    until: Micros,
    attempt: int,
    notes: Mapping[int, Notes],
) -> Leased:
    noted = notes.get(candidate.seq, NOTHING) if candidate.noted else NOTHING
    return Leased(
        LeaseRef(kind.queue, candidate.id, grant),
        kind.type,
        candidate.envelope,
        attempt,
        until,
        candidate.enqueued_at,
        candidate.available_at,
        noted.failure,
        noted.progress,
    )


async def leases(reader: Reader, refs: Sequence[LeaseRef]) -> list[LeaseRecord | None]:
    rows = await reader.rows_of(LEASES_BY_ID, [ref.job_id for ref in refs])
    live = {record.ref: record for record in _records(rows)}
    return [live.get(ref) for ref in refs]


async def expired_leases(reader: Reader, now: Micros, limit: int) -> list[LeaseRecord]:
    since = reader.heads.since("leases")
    found = list(_records(await reader.rows(LEASES_PAST, since, now, limit)))
    reader.heads.reached("leases", found[0].lease_until if found else None)
    return found


def _records(rows: Iterable[Row]) -> Iterable[LeaseRecord]:
    for queue, job_id, grant, type_, attempt, lease_until, retry in rows:
        yield LeaseRecord(
            LeaseRef(queue, job_id, grant),
            type_,
            attempt,
            lease_until,
            RetryPolicy.from_text(retry),
        )
