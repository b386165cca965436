"""Prolonging leases, up to the twelve hours for which SQS hides a message."""

from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.jobs import LeaseRef, Progress, Settlement
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import ExtendBatch, Extended, ExtendItem
from towline_broker.drivers.sqs.leases import MARGIN, Held, Leases
from towline_broker.drivers.sqs.memory import PUSH_MEMORY, Memory
from towline_broker.drivers.sqs.queues import SqsQueue
from towline_broker.drivers.sqs.traffic import Done, Traffic


class Extending:
    def __init__(self, traffic: Traffic, memory: Memory, leases: Leases) -> None:
        self._traffic = traffic
        self._memory = memory
        self._leases = leases

    async def extend(self, batch: ExtendBatch) -> list[Extended]:
        """Raises StoreUnavailable; to repeat it does no harm."""
        async with self._leases.locked([item.ref for item in batch.items]):
            untils: dict[LeaseRef, Micros] = {}
            for item in batch.items:
                if (held := self._leases.live(item.ref)) is not None:
                    untils[item.ref] = _until(held, item, batch.now)
            outcomes = await self._hide(untils, batch.now)
            if Done.UNKNOWN in outcomes.values():
                raise StoreUnavailable("SQS has not confirmed an extension; try again")
            for ref, done in outcomes.items():
                if (held := self._leases.live(ref)) is not None:
                    if done is Done.YES:
                        self._leases.extend(held, untils[ref])
                    else:
                        self._leases.end(held, Settlement.LOST, batch.now + PUSH_MEMORY)
            return [self._answer(item) for item in batch.items]

    async def _hide(self, untils: dict[LeaseRef, Micros], now: Micros) -> dict[LeaseRef, Done]:
        queues: dict[str, tuple[SqsQueue, list[Held]]] = {}
        for ref in untils:
            if (held := self._leases.live(ref)) is not None:
                queues.setdefault(ref.queue, (held.queue, []))[1].append(held)
        outcomes: dict[LeaseRef, Done] = {}
        for queue, leases in queues.values():
            hidden = [(h.handle, h.seconds_to_hide(now, untils[h.ref] + MARGIN)) for h in leases]
            done = await self._traffic.hide(queue.url, hidden)
            outcomes |= {held.ref: each for held, each in zip(leases, done, strict=True)}
        return outcomes

    def _answer(self, item: ExtendItem) -> Extended:
        held = self._leases.live(item.ref)
        if held is None:
            return Extended(None, before=self._memory.settled.get(item.ref))
        if item.progress is not None:
            self._note(held, item.progress)
        return Extended(held.until)

    def _note(self, held: Held, progress: Progress) -> None:
        note = self._memory.note(held.job.id)
        note.progress = progress.merged_into(note.progress)


def _until(held: Held, item: ExtendItem, now: Micros) -> Micros:
    """SQS grants no more than its twelve hours: what is left of them is what the worker gets."""
    asked = now + (held.length if item.lease is None else item.lease)
    most = held.hidden_at_most_until() - MARGIN
    return min(asked, max(most, held.until))
