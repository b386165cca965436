"""Dead jobs in their companion queues: requeueing and discarding them, from the front.

SQS shows no message without receiving it and finds none by what is in it. A whole queue's dead jobs
can be gone through; single ones cannot be picked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from towline_broker.domain.errors import NotSupported, StoreUnavailable
from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import MINUTE, Micros
from towline_broker.drivers.interface import DeadFilter, DeadSelection, Handled
from towline_broker.drivers.sqs.connection import BATCH, QueueGone
from towline_broker.drivers.sqs.memory import PUSH_MEMORY, Memory
from towline_broker.drivers.sqs.messages import JobMessage
from towline_broker.drivers.sqs.queues import SqsQueue, SqsQueues
from towline_broker.drivers.sqs.tally import Tally
from towline_broker.drivers.sqs.traffic import Done, Outgoing, Received, Traffic

#: For so long those that are being handled are hidden from everybody else.
HIDE_SECONDS = 60
#: A bound on the time of death that lies no farther back is no choice: it keeps jobs that die again
#: meanwhile from being handled again and again.
GUARD: Micros = 10 * MINUTE
WAY_OUT = "choose by queue only, or by nothing"

Dead = tuple[JobMessage, Received]


class DeadLetters:
    def __init__(self, queues: SqsQueues, traffic: Traffic, memory: Memory, tally: Tally) -> None:
        self._queues = queues
        self._traffic = traffic
        self._memory = memory
        self._tally = tally

    async def count(self, selection: DeadSelection) -> int:
        """Approximately, as SQS counts."""
        queues = await self._chosen(selection)
        return sum([depth.dead for depth in await asyncio.gather(*map(self._queues.depth, queues))])

    async def requeue(self, selection: DeadSelection) -> tuple[Handled, list[str]]:
        """And the queue of each job that can be leased again."""
        requeued: list[str] = []

        async def requeue(queue: SqsQueue, dead: Sequence[Dead]) -> list[Dead]:
            now = selection.now
            messages = [
                Outgoing(job.revived(now), once=f"{job.id}.{job.death.at if job.death else 0}.r")
                for job, _ in dead
            ]
            taken = await self._traffic.send_to_new(
                lambda again: self._queues.main_url(queue, again=again), messages
            )
            sent = [each for each, is_taken in zip(dead, taken, strict=True) if is_taken]
            for job, _ in sent:
                self._memory.jobs.put(job.id, JobState.READY, now + PUSH_MEMORY)
                self._tally.of(queue.name, job.type).requeued += 1
                requeued.append(queue.name)
            queue.count(len(sent))
            return sent

        return await self._handle(selection, requeue), requeued

    async def discard(self, selection: DeadSelection, remember_until: Micros) -> Handled:
        async def discard(queue: SqsQueue, dead: Sequence[Dead]) -> Sequence[Dead]:
            for job, _ in dead:
                self._memory.ended(job.id, JobState.DEAD, remember_until)
            return dead

        return await self._handle(selection, discard)

    async def _chosen(self, selection: DeadSelection) -> list[SqsQueue]:
        """Raises NotSupported for a choice that SQS cannot make."""
        if selection.ids is not None:
            raise NotSupported("sqs", "choosing dead jobs by their ids", WAY_OUT)
        wanted = selection.filter
        before = wanted.dead_before
        guard = before is not None and before >= selection.now - GUARD
        if wanted != DeadFilter(queue=wanted.queue, dead_before=before if guard else None):
            raise NotSupported("sqs", "choosing dead jobs by type, reason or time", WAY_OUT)
        await self._queues.refresh()
        return [queue for queue in self._queues.all() if wanted.queue in (None, queue.name)]

    async def _handle(
        self,
        selection: DeadSelection,
        treat: Callable[[SqsQueue, Sequence[Dead]], Awaitable[Sequence[Dead]]],
    ) -> Handled:
        """Batch by batch; what ``treat`` returns is deleted from the companion queue."""
        matched = await self.count(selection)
        handled = 0
        for queue in await self._chosen(selection):
            while handled < selection.limit and queue.dead_url:
                received = await self._receive(queue, min(BATCH, selection.limit - handled))
                if not received:
                    break
                dead = [each for each in received if _in_time(each, selection.filter.dead_before)]
                treated = await treat(queue, dead)
                done = await self._traffic.delete(
                    queue.dead_url, [message.handle for _, message in treated]
                )
                handled += sum(each is not Done.UNKNOWN for each in done)
                if len(treated) < len(dead) or Done.UNKNOWN in done:
                    raise StoreUnavailable(
                        f"SQS has confirmed {handled} of the dead jobs and not the others; those "
                        "are back among the dead within a minute"
                    )
        return Handled(max(matched, handled), handled)

    async def _receive(self, queue: SqsQueue, count: int) -> list[Dead]:
        try:
            received = await self._traffic.receive(queue.dead_url, count, HIDE_SECONDS)
        except QueueGone:
            return []
        found = ((JobMessage.from_text(message.text), message) for message in received)
        return [(job, message) for job, message in found if job is not None]


def _in_time(dead: Dead, before: Micros | None) -> bool:
    death = dead[0].death
    return before is None or death is None or death.at < before
