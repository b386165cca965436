"""Calls that wait together, joined into few statements where the database offers that (``hot.py``).

Of Push those whose jobs are alike, of Ack all without results, each as far as it is simple; of
Reserve those from one queue with one line, together where each wants one job. What is left is
played by the operation of its call. That a Push is not simple may show when something was changed:
then the transaction is given up, and its calls are played by their operations.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeAlias

from msgspec import structs

from towline_broker.domain.jobs import JobState, Leased, LeaseRef
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    AckBatch,
    PushBatch,
    PushOutcome,
    PushResult,
    ReserveRequest,
    Settled,
)
from towline_broker.drivers.sql.acks import ack
from towline_broker.drivers.sql.claims import reserve, reserve_more
from towline_broker.drivers.sql.names import Names
from towline_broker.drivers.sql.notes import NOTHING, notes_of
from towline_broker.drivers.sql.shared.hot import Claimed, Ended, Hot, Line, Shape
from towline_broker.drivers.sql.shared.transaction import SharedTransaction

#: What is asked for by a call that may be joined with others.
Request: TypeAlias = PushBatch | ReserveRequest | AckBatch

_LINES = (
    "SELECT q.id, l.priority FROM towline_queues q JOIN towline_lines l ON l.queue = q.id"
    " WHERE q.name = ?"
)


class NotSimple(Exception):
    """Nothing of the transaction may stand. Played by their operations its calls may succeed."""


class Joined:
    """Of one lane. Whatever its methods raise, the transaction has to be given up."""

    def __init__(self, hot: Hot, lines: dict[str, Line]) -> None:
        """``lines``: of the queues that had no more than one, when they were last looked at."""
        self._hot = hot
        self._lines = lines

    async def play(
        self, transaction: SharedTransaction, requests: Sequence[Request | None], *, pushes: bool
    ) -> dict[int, object]:
        """The results of those that are simple, by their places. ``pushes``: whether to try those
        of Push."""
        results: dict[int, object] = {}
        alike: dict[Hashable, dict[int, PushBatch]] = {}
        acks: dict[int, AckBatch] = {}
        for place, request in enumerate(requests):
            if isinstance(request, AckBatch):
                if request.acks and not any(item.result for item in request.acks):
                    acks[place] = request
            elif pushes and isinstance(request, PushBatch) and request.jobs:
                shape = self._shape_of(transaction, request)
                if shape is not None:
                    alike.setdefault(shape, {})[place] = request
        if acks:
            results.update(zip(acks, await self._ack(transaction, [*acks.values()]), strict=True))
        for batches in alike.values():
            pushed = await self._push(transaction, [*batches.values()])
            results.update(zip(batches, pushed, strict=True))
        results.update(await self._reserve_each(transaction, requests))
        for place, request in enumerate(requests):
            if isinstance(request, ReserveRequest) and place not in results:
                leased = await self._reserve(transaction, request)
                if leased is not None:
                    results[place] = leased
        return results

    # --- Push ---

    def _shape_of(self, transaction: SharedTransaction, batch: PushBatch) -> Hashable:
        """What has to be equal in batches that are pushed together; None: it is not simple."""
        first = batch.jobs[0]
        queue, type_, priority = first.queue, first.type, first.priority
        retention, retry, now = first.retention, first.retry, batch.now
        for job in batch.jobs:
            if (
                job.queue != queue
                or job.type != type_
                or job.priority != priority
                or job.retention != retention
                or job.retry != retry
                or job.unique_key is not None
                or job.expires_at is not None
                or (job.due_at is not None and job.due_at > now)
            ):
                return None
        limit = batch.max_depth.get(queue)
        if limit is not None and not transaction.depths.surely_below(limit, queue, len(batch.jobs)):
            return None
        return queue, type_, priority, retention, retry

    async def _push(
        self, transaction: SharedTransaction, batches: Sequence[PushBatch]
    ) -> list[list[PushResult]]:
        """Of one shape."""
        jobs = [job for batch in batches for job in batch.jobs]
        ids = [job.id for job in jobs]
        shape = await _made(transaction, batches[0])
        with transaction.taking_places() as has:
            first = await self._hot.insert(shape, ids, max(batch.now for batch in batches))
            has(first)
        envelopes = [job.envelope for job in jobs]
        if not await self._hot.fill(shape, first, ids, envelopes):
            raise NotSimple
        kinds = [shape.kind.id] * len(jobs)
        transaction.tally.move(kinds, into=JobState.READY)
        transaction.tally.count("pushed", kinds)
        transaction.effects.ready[shape.kind.queue] += len(jobs)
        created = PushOutcome.CREATED
        return [[PushResult(job.id, created) for job in batch.jobs] for batch in batches]

    # --- Reserve ---

    async def _reserve(
        self, transaction: SharedTransaction, request: ReserveRequest
    ) -> list[Leased] | None:
        """None if it is not simple."""
        name, *others = request.queues
        if others or request.max_jobs < 1:
            return None
        line = self._lines.get(name) or await self._only_line(transaction, name)
        if line is None or transaction.has_to_look(line.queue):
            return None
        until = request.now + request.lease
        transaction.heads.appeared("leases", until)
        found = await transaction.claim(
            line, lambda mark: self._hot.claim(line, mark, until, request)
        )
        if not found:
            leased = await reserve(transaction, request)
            if leased:
                # Perhaps it has another line by now.
                self._lines.pop(name, None)
            return leased
        leased = await _leased(transaction, found, until, request)
        looked_at = found[0].looked_at
        if looked_at == request.max_jobs:
            # Meanwhile others have passed over those that are not taken.
            transaction.effects.ready[name] += looked_at - len(found)
            return leased
        rest = await reserve_more(transaction, request, (name, *line), leased)
        return [*leased, *rest]

    async def _reserve_each(
        self, transaction: SharedTransaction, requests: Sequence[Request | None]
    ) -> dict[int, list[Leased]]:
        """Of those that want one job of the same queue: as many as there are jobs for, by their
        places. The others are left."""
        results: dict[int, list[Leased]] = {}
        for name, alike in _alone(requests).items():
            if len(alike) == 1:
                continue
            line = self._lines.get(name) or await self._only_line(transaction, name)
            if line is None or transaction.has_to_look(line.queue):
                continue
            results.update(await self._claim_each(transaction, line, alike))
        return results

    async def _claim_each(
        self, transaction: SharedTransaction, line: Line, alike: Mapping[int, ReserveRequest]
    ) -> dict[int, list[Leased]]:
        wanted = [*alike.values()]
        untils = [request.now + request.lease for request in wanted]
        transaction.heads.appeared("leases", min(untils))
        found = await transaction.claim(line, lambda mark: self._hot.claim_each(line, mark, wanted))
        return {
            place: await _leased(transaction, [one], until, request)
            for one, until, (place, request) in zip(found, untils, alike.items(), strict=False)
        }

    async def _only_line(self, transaction: SharedTransaction, name: str) -> Line | None:
        rows = await transaction.rows(_LINES, name)
        if len(rows) != 1:
            return None
        line = self._lines[name] = Line(*rows[0])
        return line

    # --- Ack ---

    async def _ack(
        self, transaction: SharedTransaction, batches: Sequence[AckBatch]
    ) -> list[list[Settled]]:
        """Without results."""
        refs = [item.ref for batch in batches for item in batch.acks]
        now, until = max((batch.now, batch.remember_until) for batch in batches)
        ended = await self._hot.finish(refs, now, until)
        kinds = [one.kind for one in ended]
        transaction.tally.move(kinds, out_of=JobState.LEASED)
        transaction.tally.count("completed", kinds)
        transaction.effects.ended.extend(one.id for one in ended)
        of = transaction.names.of
        by_ref = {LeaseRef(of(one.kind).queue, one.id, one.grant): one for one in ended}
        answers = [_applied(batch, by_ref, transaction.names) for batch in batches]
        if by_ref:
            # The lease of a job in another queue than was said.
            raise NotSimple
        return [
            await _with_rest(transaction, batch, answer)
            for batch, answer in zip(batches, answers, strict=True)
        ]


async def _made(transaction: SharedTransaction, batch: PushBatch) -> Shape:
    """The shape of its jobs, with the numbers that stand for their names."""
    job = batch.jobs[0]
    names = transaction.names
    name = (job.queue, job.type)
    kind = (await names.ensure(transaction, [name]))[name]
    await names.ensure_lines(transaction, [(kind.queue_id, job.priority)])
    return Shape(kind, job.priority, job.retention, job.retry.to_text())


def _alone(requests: Sequence[Request | None]) -> dict[str, dict[int, ReserveRequest]]:
    """Those that want one job of one queue, by their queue and their place. Of those with the same
    id, of which all but one are repetitions, the first."""
    alone: dict[str, dict[int, ReserveRequest]] = {}
    ids: set[str] = set()
    for place, request in enumerate(requests):
        if (
            isinstance(request, ReserveRequest)
            and request.max_jobs == 1
            and len(request.queues) == 1
            and (request.max_bytes is None or request.max_bytes > 0)
            and request.request_id not in ids
        ):
            alone.setdefault(request.queues[0], {})[place] = request
            if request.request_id:
                ids.add(request.request_id)
    return alone


async def _leased(
    transaction: SharedTransaction,
    found: Sequence[Claimed],
    until: Micros,
    request: ReserveRequest,
) -> list[Leased]:
    kinds = [one.kind for one in found]
    transaction.tally.move(kinds, out_of=JobState.READY, into=JobState.LEASED)
    transaction.tally.count("started", kinds)
    notes = await notes_of(transaction, [one.seq for one in found if one.noted])
    grant, of, leased = request.grant, transaction.names.of, []
    for one in found:
        kind = of(one.kind)
        failure, progress = notes.get(one.seq, NOTHING)
        ref = LeaseRef(kind.queue, one.id, grant)
        leased.append(
            Leased(
                *(ref, kind.type, one.envelope, one.attempt, until),
                *(one.enqueued_at, one.available_at, failure, progress),
            )
        )
    return leased


def _applied(batch: AckBatch, ended: dict[LeaseRef, Ended], names: Names) -> list[Settled | None]:
    """Takes out of ``ended`` what the batch has ended, so that a lease named twice ends once."""
    answers: list[Settled | None] = []
    for item in batch.acks:
        one = ended.pop(item.ref, None)
        if one is None:
            answers.append(None)
            continue
        elapsed = batch.now - (one.started_at or batch.now)
        answers.append(Settled(True, type=names.of(one.kind).type, elapsed=elapsed))
    return answers


async def _with_rest(
    transaction: SharedTransaction, batch: AckBatch, answers: Sequence[Settled | None]
) -> list[Settled]:
    """Settles those that have no answer yet."""
    rest = [item for item, done in zip(batch.acks, answers, strict=True) if done is None]
    settled = iter(await ack(transaction, structs.replace(batch, acks=rest)) if rest else ())
    return [done or next(settled) for done in answers]
