"""Reserve: receiving messages, and leasing the jobs in them."""

import asyncio
from collections.abc import Sequence

from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.jobs import Leased
from towline_broker.domain.time import SECOND
from towline_broker.drivers.interface import ReserveRequest
from towline_broker.drivers.sqs.connection import BATCH, QueueGone
from towline_broker.drivers.sqs.leases import MARGIN, MOST_HIDDEN, Held, Leases
from towline_broker.drivers.sqs.memory import Memory
from towline_broker.drivers.sqs.messages import MOST_ENVELOPE, JobMessage
from towline_broker.drivers.sqs.queues import SqsQueue, SqsQueues
from towline_broker.drivers.sqs.sieve import Sieve
from towline_broker.drivers.sqs.tally import Tally
from towline_broker.drivers.sqs.traffic import Received, Traffic

#: Receive calls under way for one Reserve at the same time.
WAVE = 8


class Claims:
    def __init__(
        self, queues: SqsQueues, traffic: Traffic, memory: Memory, leases: Leases, tally: Tally
    ) -> None:
        self._queues = queues
        self._traffic = traffic
        self._memory = memory
        self._leases = leases
        self._tally = tally

    async def reserve(self, request: ReserveRequest) -> list[Leased]:
        """Raises StoreUnavailable if nothing could be leased for it."""
        if before := self._leases.of_request(request.request_id):
            return [held.leased(self._memory) for held in before]
        granted: list[Leased] = []
        if request.max_jobs > 0:
            try:
                for name in request.queues:
                    queue = await self._queues.find(name, request.now)
                    if queue is not None and not queue.paused:
                        await self._reserve_from(queue, request, granted)
            except StoreUnavailable:
                if not granted:
                    raise
        return granted

    async def _reserve_from(
        self, queue: SqsQueue, request: ReserveRequest, granted: list[Leased]
    ) -> None:
        """Until SQS has no more at hand, or the request is served."""
        hide = min(request.lease + MARGIN, MOST_HIDDEN)
        while wanted := _wanted(request, granted):
            received = await self._receive(queue, wanted, -(-hide // SECOND))
            sieve = Sieve(self._leases, self._memory)
            for message in received:
                if (job := sieve.waiting(queue, message, request.now)) is not None:
                    granted.append(self._grant(queue, job, message, request))
            await sieve.clean_up(queue, self._traffic)
            if len(received) < min(wanted, BATCH):
                break

    async def _receive(self, queue: SqsQueue, wanted: int, hide_seconds: int) -> list[Received]:
        """As many as wanted, if they are at hand, by up to a wave of calls."""
        counts = [
            min(BATCH, wanted - start) for start in range(0, min(wanted, WAVE * BATCH), BATCH)
        ]
        answers = await asyncio.gather(
            *(self._traffic.receive(queue.url, count, hide_seconds) for count in counts),
            return_exceptions=True,
        )
        received: list[Received] = []
        failed: list[BaseException] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                failed.append(answer)
            else:
                received += answer
        # What has been received must not be lost sight of because another call failed.
        if failed and not received and not isinstance(failed[0], QueueGone):
            raise failed[0]
        return received

    def _grant(
        self, queue: SqsQueue, job: JobMessage, message: Received, request: ReserveRequest
    ) -> Leased:
        note = self._memory.noted(job.id)
        attempt = message.receives - (note.uncounted if note else 0)
        # Releases that another broker saw, or this one before its restart, are in SQS's count: it
        # may be too high, but says no more than that all attempts are used up.
        attempt = max(1, min(attempt, job.retry.max_attempts))
        held = Held(queue, job, message.handle, message.message_id, attempt)
        self._leases.grant(held, request)
        self._tally.of(queue.name, job.type).started += 1
        return held.leased(self._memory)


def _wanted(request: ReserveRequest, granted: Sequence[Leased]) -> int:
    """How many more to ask for, so that even the largest would not go far over the bound."""
    wanted = request.max_jobs - len(granted)
    if request.max_bytes is not None and wanted > 0:
        room = request.max_bytes - sum(len(leased.envelope) for leased in granted)
        wanted = min(wanted, max(1, room // MOST_ENVELOPE)) if room > 0 else 0
    return wanted
