"""Purging a queue: its messages are received and deleted, one batch after the other.

SQS's own PurgeQueue would be one call, but it takes what is leased as well, and for a minute what
is pushed afterwards.
"""

from towline_broker.domain.errors import QueueNotFound
from towline_broker.domain.jobs import JobState
from towline_broker.drivers.interface import Handled, PurgeRequest
from towline_broker.drivers.sqs.connection import BATCH, QueueGone
from towline_broker.drivers.sqs.leases import Leases
from towline_broker.drivers.sqs.memory import Memory
from towline_broker.drivers.sqs.queues import SqsQueues
from towline_broker.drivers.sqs.sieve import Sieve
from towline_broker.drivers.sqs.tally import Tally
from towline_broker.drivers.sqs.traffic import Done, Traffic

HIDE_SECONDS = 60


class Purging:
    def __init__(
        self, queues: SqsQueues, traffic: Traffic, memory: Memory, leases: Leases, tally: Tally
    ) -> None:
        self._queues = queues
        self._traffic = traffic
        self._memory = memory
        self._leases = leases
        self._tally = tally

    async def purge(self, request: PurgeRequest) -> tuple[Handled, list[str]]:
        """And the ids of the jobs that went. Delayed ones stay: SQS hides them until their time.

        Raises QueueNotFound.
        """
        queue = await self._queues.existing(request.queue)
        matched = (await self._queues.depth(queue)).ready
        gone: list[str] = []
        while len(gone) < request.limit:
            count = min(BATCH, request.limit - len(gone))
            try:
                received = await self._traffic.receive(queue.url, count, HIDE_SECONDS)
            except QueueGone:
                raise QueueNotFound(queue.name) from None
            if not received:
                break
            sieve = Sieve(self._leases, self._memory)
            found = [(sieve.waiting(queue, each, request.now), each.handle) for each in received]
            waiting = [(job, handle) for job, handle in found if job is not None]
            done = await self._traffic.delete(queue.url, [handle for _, handle in waiting])
            for (job, _), each in zip(waiting, done, strict=True):
                if each is Done.YES:
                    self._memory.ended(job.id, JobState.CANCELLED, request.remember_until)
                    self._tally.of(queue.name, job.type).cancelled += 1
                    gone.append(job.id)
            await sieve.clean_up(queue, self._traffic)
        queue.count(-len(gone))
        return Handled(max(matched, len(gone)), len(gone)), gone
