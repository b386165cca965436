"""Telling messages that hold a waiting job from mere copies.

A standard queue may hand out a message again though it is hidden or deleted, and a job may have
been sent twice, by a push that was repeated at another broker.
"""

import logging

from towline_broker.domain.events import event
from towline_broker.domain.time import Micros
from towline_broker.drivers.sqs.leases import MARGIN, Leases
from towline_broker.drivers.sqs.memory import Memory
from towline_broker.drivers.sqs.messages import JobMessage
from towline_broker.drivers.sqs.queues import SqsQueue
from towline_broker.drivers.sqs.traffic import Received, Traffic

log = logging.getLogger("towline.broker")


class Sieve:
    """For the messages of one receive. What it decides holds at once; clean_up tells SQS."""

    def __init__(self, leases: Leases, memory: Memory) -> None:
        self._leases = leases
        self._memory = memory
        self._copies: list[str] = []
        self._held: list[tuple[str, int]] = []

    def waiting(self, queue: SqsQueue, message: Received, now: Micros) -> JobMessage | None:
        """The job in it, if it waits."""
        job = JobMessage.from_text(message.text)
        if job is None:
            log.warning(
                "queue %s holds a message that no broker has written",
                queue.name,
                extra=event("message_foreign", queue=queue.name),
            )
            return None
        held = self._leases.of_job(job.id)
        if held is not None and held.message_id == message.message_id:
            # From now on only the newest handle counts.
            held.handle = message.handle
            self._memory.note(job.id).uncounted += 1
            seconds = held.seconds_to_hide(now, held.until + MARGIN)
            self._held.append((message.handle, seconds))
            return None
        if held is not None or self._memory.has_ended(job.id):
            self._copies.append(message.handle)
            return None
        return job

    async def clean_up(self, queue: SqsQueue, traffic: Traffic) -> None:
        """What does not succeed comes up again by itself."""
        if self._copies:
            await traffic.delete(queue.url, self._copies)
        if self._held:
            await traffic.hide(queue.url, self._held)
