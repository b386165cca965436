"""Ending leases by Ack and Nack, and prolonging them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import TypeVar

from msgspec.structs import replace

from towline_broker.core.calls import (
    AckCall,
    DeadLetter,
    Directive,
    HeartbeatAnswer,
    HeartbeatItem,
    LeaseOutcome,
    NackCall,
    Release,
    RetryAfter,
    WorkerKey,
)
from towline_broker.core.joining import Joining
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.retrying import after_failure
from towline_broker.core.settings import CoreSettings
from towline_broker.core.statistics import Timings
from towline_broker.core.stores import Store, Stores
from towline_broker.core.workers import Workers
from towline_broker.domain.events import event
from towline_broker.domain.jobs import DeadReason, LeaseRecord, LeaseRef, Settlement
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    AckBatch,
    ExtendBatch,
    Extended,
    ExtendItem,
    NackBatch,
    NackItem,
    Settled,
)

log = logging.getLogger("towline.broker")

Item = TypeVar("Item", AckCall, NackCall, HeartbeatItem)
Answer = TypeVar("Answer")

#: The failure type with which workers give back a job whose type they do not know.
UNKNOWN_TYPE = "UnknownJobType"


class Settling:
    def __init__(
        self,
        stores: Stores,
        settings: CoreSettings,
        owned: OwnedTasks,
        workers: Workers,
        timings: Timings,
        rng: Random,
    ) -> None:
        self._stores = stores
        self._settings = settings
        self._owned = owned
        self._workers = workers
        self._timings = timings
        self._rng = rng
        self._acks = {
            store: Joining(partial(self._ack_in, store), owned, at_once=store.at_once)
            for store in stores.all
        }
        self._nacks = {
            store: Joining(partial(self._nack_in, store), owned, at_once=store.at_once)
            for store in stores.all
        }
        self._extends = {
            store: Joining(partial(self._extend_in, store), owned, at_once=store.at_once)
            for store in stores.all
        }

    async def ack(self, calls: Sequence[AckCall]) -> list[LeaseOutcome]:
        """Raises StoreError."""
        answers = await self._asked(self._acks, calls, _unknown)
        refs = [call.ref for call in calls]
        self._count(refs, refs, answers)
        ok = LeaseOutcome.OK
        if [each.applied for each in answers].count(True) == len(answers):
            return [ok] * len(answers)
        return [_outcome(each, Settlement.ACKED) for each in answers]

    async def nack(self, calls: Sequence[NackCall]) -> list[LeaseOutcome]:
        """Raises StoreError."""
        answers = await self._asked(self._nacks, calls, _unknown_nack)
        # A release was no processing, so how long its lease was held says nothing.
        processed = [pair for pair in answers if pair[0].settlement is not Settlement.RELEASED]
        self._count(
            [nack.ref for nack, _ in answers],
            [nack.ref for nack, _ in processed],
            [answer for _, answer in processed],
        )
        _warn_of_unknown_types(answers)
        return [_outcome(answer, nack.settlement) for nack, answer in answers]

    async def heartbeat(
        self, worker_id: str, items: Sequence[HeartbeatItem], holder: str = ""
    ) -> tuple[list[HeartbeatAnswer], Directive]:
        """``holder``: the mark of the identity that calls. Raises StoreError."""
        directive = self.heard(worker_id, holder)
        if not items:
            return [], directive
        answers = await self._asked(self._extends, items, _unknown_lease)
        return list(answers), directive

    def heard(self, worker_id: str, holder: str = "") -> Directive:
        """A worker shows that it is there. Arguments as for a heartbeat."""
        return self._workers.heard(WorkerKey(worker_id, holder))

    def directive_of(self, worker: WorkerKey) -> Directive:
        """Without its being heard of."""
        return self._workers.directive_of(worker)

    async def _asked(
        self,
        stores: Mapping[Store, Joining[Item, Answer]],
        items: Sequence[Item],
        missing: Callable[[Answer], bool],
    ) -> Sequence[Answer]:
        """The answers of the stores that the items are for. Raises StoreError."""
        if self._stores.only is not None:
            return await stores[self._stores.only].ask(items)

        async def ask(store: Store, part: Sequence[Item]) -> Sequence[Answer]:
            return await stores[store].ask(part)

        return await self._owned.run(
            self._stores.split(items, lambda item: item.ref.queue, ask, missing)
        )

    # Each of these is about the items of one store.

    async def _ack_in(self, store: Store, calls: Sequence[AckCall]) -> Sequence[Settled]:
        now = store.clock.now()
        return await store.driver.ack(AckBatch(calls, now, now + self._settings.settle_memory))

    async def _nack_in(
        self, store: Store, calls: Sequence[NackCall]
    ) -> Sequence[tuple[NackItem, Settled]]:
        records = await store.driver.leases([call.ref for call in calls])
        now = store.clock.now()
        nacks = [
            self._decide(call, record, now) for call, record in zip(calls, records, strict=True)
        ]
        batch = NackBatch(nacks, now, now + self._settings.settle_memory)
        answers = await store.driver.nack(batch)
        due = [nack.due_at for nack in nacks if nack.due_at is not None]
        if due:
            store.upkeep.no_later_than(min(due))
        return list(zip(nacks, answers, strict=True))

    async def _extend_in(
        self, store: Store, items: Sequence[HeartbeatItem]
    ) -> Sequence[HeartbeatAnswer]:
        now = store.clock.now()
        extends = [ExtendItem(item.ref, item.extend, item.progress) for item in items]
        extended = await store.driver.extend(ExtendBatch(extends, now))
        return [
            self._extended(store, item, result)
            for item, result in zip(items, extended, strict=True)
        ]

    def _extended(self, store: Store, item: HeartbeatItem, result: Extended) -> HeartbeatAnswer:
        until = result.lease_until
        if until is None:
            self._workers.settled([item.ref])
            return HeartbeatAnswer(_heartbeat_outcome(result.before))
        self._workers.extended(item.ref, until)
        store.upkeep.no_later_than(until)
        return HeartbeatAnswer(LeaseOutcome.OK, max(0, until - store.clock.now()))

    def _decide(self, call: NackCall, record: LeaseRecord | None, now: Micros) -> NackItem:
        """``record`` is None when the lease is not live: then only the settlement counts, for the
        answer."""
        failure = None if call.failure is None else replace(call.failure, at=now)
        match call.action:
            case Release(pause):
                return NackItem(call.ref, Settlement.RELEASED, due_at=now + pause, failure=failure)
            case DeadLetter():
                return NackItem(
                    call.ref,
                    Settlement.DEAD_LETTERED,
                    dead_reason=DeadReason.REJECTED,
                    failure=failure,
                )
            case RetryAfter() as asked:
                delay: Micros | None = asked.delay
            case _:
                delay = None
        if record is None:
            return NackItem(call.ref, Settlement.RETRIED)
        verdict = after_failure(record.retry, record.attempt, now, self._rng, delay)
        return NackItem(call.ref, Settlement.RETRIED, verdict.due_at, verdict.dead_reason, failure)

    def _count(
        self,
        ended: Sequence[LeaseRef],
        processed: Sequence[LeaseRef],
        answers: Sequence[Settled],
    ) -> None:
        """``answers``: what became of those that are ``processed``."""
        self._timings.processed(
            [
                (ref.queue, answer.type, answer.elapsed)
                for ref, answer in zip(processed, answers, strict=True)
                if answer.applied
            ]
        )
        # One that was lost or cancelled before is over, too.
        self._workers.settled(ended)


def _outcome(answer: Settled, wanted: Settlement) -> LeaseOutcome:
    """A repeat gets the answer of the first call (P3)."""
    if answer.applied or answer.before is wanted:
        return LeaseOutcome.OK
    if answer.before is None:
        return LeaseOutcome.NOT_FOUND
    if answer.before in (Settlement.LOST, Settlement.CANCELLED):
        return LeaseOutcome.LEASE_LOST
    return LeaseOutcome.ALREADY_SETTLED


def _heartbeat_outcome(before: Settlement | None) -> LeaseOutcome:
    match before:
        case None:
            return LeaseOutcome.NOT_FOUND
        case Settlement.CANCELLED:
            return LeaseOutcome.CANCELLED
        case Settlement.LOST:
            return LeaseOutcome.LEASE_LOST
        case _:
            return LeaseOutcome.ALREADY_SETTLED


def _unknown(answer: Settled) -> bool:
    return not answer.applied and answer.before is None


def _unknown_nack(answer: tuple[NackItem, Settled]) -> bool:
    return _unknown(answer[1])


def _unknown_lease(answer: HeartbeatAnswer) -> bool:
    return answer.outcome is LeaseOutcome.NOT_FOUND


def _warn_of_unknown_types(answers: Sequence[tuple[NackItem, Settled]]) -> None:
    """A job that no worker knows goes round for ever: an operator has to hear of it."""
    for nack, answer in answers:
        if (
            answer.applied
            and nack.settlement is Settlement.RELEASED
            and nack.failure is not None
            and nack.failure.type == UNKNOWN_TYPE
        ):
            log.warning(
                "job %s went back to queue %s: its worker knows no type %s",
                nack.ref.job_id,
                nack.ref.queue,
                answer.type,
                extra=event(
                    "type_unknown", job=nack.ref.job_id, queue=nack.ref.queue, type=answer.type
                ),
            )
