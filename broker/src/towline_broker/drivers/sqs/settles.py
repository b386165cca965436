"""Ack and Nack: what SQS is told, and what is remembered of it here."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.jobs import JobState, LeaseRef, Settlement
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import AckBatch, NackBatch, NackItem, Settled
from towline_broker.drivers.sqs.leases import Held, Leases
from towline_broker.drivers.sqs.memory import Memory
from towline_broker.drivers.sqs.messages import Death
from towline_broker.drivers.sqs.queues import SqsQueue, SqsQueues
from towline_broker.drivers.sqs.tally import Tally
from towline_broker.drivers.sqs.traffic import Done, Outgoing, Traffic

Outcomes = dict[LeaseRef, Done]


@dataclass(slots=True)
class Results:
    """``None`` in ``settled``: what became of that one is not known."""

    settled: list[Settled | None] = field(default_factory=list)
    #: Ids of jobs that ended.
    ended: list[str] = field(default_factory=list)
    #: Jobs that can be leased again, by queue.
    ready: Counter[str] = field(default_factory=Counter)

    def known(self) -> list[Settled]:
        """Raises StoreUnavailable if one is not: a repeat is told how the others ended."""
        known = [settled for settled in self.settled if settled is not None]
        if len(known) < len(self.settled):
            missing = len(self.settled) - len(known)
            raise StoreUnavailable(f"SQS has not confirmed the end of {missing} leases; try again")
        return known


class Settles:
    def __init__(
        self, queues: SqsQueues, traffic: Traffic, memory: Memory, leases: Leases, tally: Tally
    ) -> None:
        self._queues = queues
        self._traffic = traffic
        self._memory = memory
        self._leases = leases
        self._tally = tally

    async def ack(self, batch: AckBatch) -> Results:
        refs = [item.ref for item in batch.acks]
        results = Results()
        async with self._leases.locked(refs):
            outcomes = await self._delete(self._live(refs))
            for ref in refs:
                held = self._confirmed(ref, outcomes, batch.remember_until)
                if isinstance(held, Held):
                    self._leases.end(held, Settlement.ACKED, batch.remember_until)
                    self._memory.ended(ref.job_id, JobState.SUCCEEDED, batch.remember_until)
                    self._tally.of(ref.queue, held.job.type).completed += 1
                    held.queue.count(-1)
                    results.ended.append(ref.job_id)
                    results.settled.append(_applied(held, batch.now))
                else:
                    results.settled.append(held)
        return results

    async def nack(self, batch: NackBatch) -> Results:
        results = Results()
        async with self._leases.locked([item.ref for item in batch.nacks]):
            first: dict[LeaseRef, NackItem] = {}
            for item in batch.nacks:
                if self._leases.live(item.ref) and not self._too_early(item, batch.now):
                    first.setdefault(item.ref, item)
            outcomes = await self._bury([i for i in first.values() if i.dead_reason], batch.now)
            outcomes |= await self._show([i for i in first.values() if not i.dead_reason], batch)
            for item in batch.nacks:
                if self._too_early(item, batch.now):
                    results.settled.append(Settled(False))
                    continue
                held = self._confirmed(item.ref, outcomes, batch.remember_until)
                if isinstance(held, Held):
                    self._record(held, item, batch, results)
                    results.settled.append(_applied(held, batch.now))
                else:
                    results.settled.append(held)
        return results

    def _live(self, refs: Iterable[LeaseRef]) -> list[Held]:
        found = (self._leases.live(ref) for ref in dict.fromkeys(refs))
        return [held for held in found if held is not None]

    def _too_early(self, item: NackItem, now: Micros) -> bool:
        held = self._leases.live(item.ref)
        return item.settlement is Settlement.LOST and held is not None and held.until > now

    def _confirmed(
        self, ref: LeaseRef, outcomes: Outcomes, remember_until: Micros
    ) -> Held | Settled | None:
        """The lease, if SQS has done what was asked; or else what is to be answered."""
        held = self._leases.live(ref)
        if held is None:
            return Settled(False, before=self._memory.settled.get(ref))
        match outcomes[ref]:
            case Done.YES:
                return held
            case Done.LOST:
                self._leases.end(held, Settlement.LOST, remember_until)
                return Settled(False, before=Settlement.LOST)
        return None

    def _record(self, held: Held, item: NackItem, batch: NackBatch, results: Results) -> None:
        """What a Nack that took place has changed."""
        job, queue = held.job, held.queue
        totals = self._tally.of(queue.name, job.type)
        released = item.settlement is Settlement.RELEASED
        totals.released += released
        totals.failed += not released
        totals.lease_expired += item.settlement is Settlement.LOST
        self._leases.end(held, item.settlement, batch.remember_until)
        if item.dead_reason is not None:
            totals.dead_lettered += 1
            self._memory.ended(job.id, JobState.DEAD, batch.remember_until)
            queue.count(-1)
            results.ended.append(job.id)
            return
        totals.retried += not released
        note = self._memory.note(job.id)
        note.uncounted += released
        note.ready_at = max(batch.now, item.due_at or 0)
        note.failure = item.failure or note.failure
        if note.ready_at == batch.now:
            results.ready[queue.name] += 1

    # --- what SQS is told ---------------------------------------------------------------------

    async def _delete(self, leases: Sequence[Held]) -> Outcomes:
        outcomes: Outcomes = {}
        for queue, held in _by_queue(leases):
            done = await self._traffic.delete(queue.url, [lease.handle for lease in held])
            outcomes |= {lease.ref: each for lease, each in zip(held, done, strict=True)}
        return outcomes

    async def _show(self, items: Sequence[NackItem], batch: NackBatch) -> Outcomes:
        """Makes the messages visible when the jobs are due."""
        now = batch.now
        due = {item.ref: max(now, item.due_at or 0) for item in items}
        lost = {item.ref for item in items if item.settlement is Settlement.LOST}
        outcomes: Outcomes = {}
        for queue, held in _by_queue(self._live(due)):
            shown = [(lease.handle, lease.seconds_to_hide(now, due[lease.ref])) for lease in held]
            done = await self._traffic.hide(queue.url, shown)
            for lease, each in zip(held, done, strict=True):
                # A lease that ran out may have been visible again before it was taken back.
                found_lost = each is Done.LOST and lease.ref in lost
                outcomes[lease.ref] = Done.YES if found_lost else each
        return outcomes

    async def _bury(self, items: Sequence[NackItem], now: Micros) -> Outcomes:
        """First into the companion queue, then out of the queue: a crash in between leaves a job
        in both, and never in neither."""
        by_ref = {item.ref: item for item in items}
        outcomes = dict.fromkeys(by_ref, Done.UNKNOWN)
        for queue, held in _by_queue(self._live(by_ref)):
            waiting = [lease for lease in held if not lease.buried]
            messages = [self._obituary(lease, by_ref[lease.ref], now) for lease in waiting]
            taken = await self._send_dead(queue, messages)
            for lease, is_taken in zip(waiting, taken, strict=True):
                lease.buried = is_taken
            outcomes |= await self._delete([lease for lease in held if lease.buried])
        return outcomes

    def _obituary(self, held: Held, item: NackItem, now: Micros) -> Outgoing:
        assert item.dead_reason is not None  # noqa: S101 -- chosen for having one
        note = self._memory.noted(held.job.id)
        failure = item.failure or (note.failure if note else None)
        death = Death(item.dead_reason, now, held.attempt)
        return Outgoing(held.job.buried(death, failure), once=f"{held.job.id}.{now}")

    async def _send_dead(self, queue: SqsQueue, messages: Sequence[Outgoing]) -> list[bool]:
        if not messages:
            return []
        try:
            return await self._traffic.send_to_new(
                lambda again: self._queues.dead_url(queue, again=again), messages
            )
        except StoreUnavailable:
            return [False] * len(messages)


def _by_queue(leases: Sequence[Held]) -> list[tuple[SqsQueue, list[Held]]]:
    groups: dict[str, tuple[SqsQueue, list[Held]]] = {}
    for held in leases:
        groups.setdefault(held.queue.name, (held.queue, []))[1].append(held)
    return list(groups.values())


def _applied(held: Held, now: Micros) -> Settled:
    return Settled(True, type=held.job.type, elapsed=now - held.granted_at)
