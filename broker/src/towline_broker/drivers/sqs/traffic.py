"""Messages on their way, in the batches that SQS takes: sending, receiving, deleting, hiding."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from towline_broker.domain.errors import StoreUnavailable
from towline_broker.drivers.sqs.connection import BATCH, Connection, QueueGone, in_batches
from towline_broker.drivers.sqs.messages import MOST_BYTES, JobMessage

#: A queue can be used about a second after it was made.
NEW_QUEUE_TRIES = 10
NEW_QUEUE_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class Outgoing:
    job: JobMessage
    #: 0 to 900.
    delay_seconds: int = 0
    #: FIFO queues drop a second one of the same name for five minutes.
    once: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    handle: str
    message_id: str
    #: How many times SQS has handed out the message, this one included.
    receives: int
    text: str


class Done(Enum):
    """What became of the change of one message."""

    YES = "yes"
    #: It is no longer ours to change: visible again, received by another, or deleted.
    LOST = "lost"
    UNKNOWN = "unknown"


class Traffic:
    def __init__(self, connection: Connection, fifo: bool) -> None:
        self._connection = connection
        self._fifo = fifo

    async def send(self, url: str, messages: Sequence[Outgoing]) -> list[bool]:
        """Whether each was taken for sure. Raises QueueGone, having sent nothing."""
        texts = [message.job.to_text() for message in messages]
        batches = _fitting([len(text) for text in texts])
        taken = [False] * len(messages)
        answers = await asyncio.gather(
            *(
                self._send_batch(url, [(place, messages[place], texts[place]) for place in batch])
                for batch in batches
            ),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, (QueueGone, StoreUnavailable)):
                continue
            if isinstance(answer, BaseException):
                raise answer
            for place in answer:
                taken[place] = True
        if answers and all(isinstance(answer, QueueGone) for answer in answers):
            raise QueueGone
        return taken

    async def send_to_new(
        self, url_of: Callable[[bool], Awaitable[str]], messages: Sequence[Outgoing]
    ) -> list[bool]:
        """As :meth:`send`, to a queue that may have been made just now. ``url_of`` makes it, if
        there is none or (True) if SQS says so. Raises StoreUnavailable."""
        again = False
        for _ in range(NEW_QUEUE_TRIES):
            try:
                return await self.send(await url_of(again), messages)
            except QueueGone:
                await asyncio.sleep(NEW_QUEUE_PAUSE)
                again = True
        raise StoreUnavailable("SQS does not know a queue that was just made")

    async def _send_batch(self, url: str, batch: Sequence[tuple[int, Outgoing, str]]) -> list[int]:
        entries = []
        for place, message, text in batch:
            entry: dict[str, Any] = {"Id": str(place), "MessageBody": text}
            if self._fifo:
                entry["MessageGroupId"] = message.job.id
                entry["MessageDeduplicationId"] = message.once or message.job.id
            else:
                entry["DelaySeconds"] = message.delay_seconds
            entries.append(entry)
        answer = await self._connection.call_once(
            "send_message_batch", QueueUrl=url, Entries=entries
        )
        return [int(entry["Id"]) for entry in answer.get("Successful", ())]

    async def receive(self, url: str, count: int, hide_seconds: int) -> list[Received]:
        """At most ten. Raises QueueGone, StoreUnavailable."""
        answer = await self._connection.call(
            "receive_message",
            QueueUrl=url,
            MaxNumberOfMessages=min(count, BATCH),
            VisibilityTimeout=hide_seconds,
            WaitTimeSeconds=0,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return [
            Received(
                message["ReceiptHandle"],
                message["MessageId"],
                int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
                message["Body"],
            )
            for message in answer.get("Messages", ())
        ]

    async def delete(self, url: str, handles: Sequence[str]) -> list[Done]:
        entries = [{"ReceiptHandle": handle} for handle in handles]
        return await self._change(url, "delete_message_batch", entries)

    async def hide(self, url: str, handles: Sequence[tuple[str, int]]) -> list[Done]:
        """Each for so many seconds from now; 0 makes it visible."""
        entries = [
            {"ReceiptHandle": handle, "VisibilityTimeout": seconds} for handle, seconds in handles
        ]
        return await self._change(url, "change_message_visibility_batch", entries)

    async def _change(
        self, url: str, operation: str, entries: Sequence[dict[str, Any]]
    ) -> list[Done]:
        numbered = [{"Id": str(place), **entry} for place, entry in enumerate(entries)]
        done = [Done.UNKNOWN] * len(entries)

        async def change(batch: Sequence[dict[str, Any]]) -> None:
            try:
                answer = await self._connection.call(operation, QueueUrl=url, Entries=batch)
            except QueueGone:
                for entry in batch:
                    done[int(entry["Id"])] = Done.LOST
                return
            except StoreUnavailable:
                return
            for entry in answer.get("Successful", ()):
                done[int(entry["Id"])] = Done.YES
            for entry in answer.get("Failed", ()):
                if entry.get("SenderFault"):
                    done[int(entry["Id"])] = Done.LOST

        await asyncio.gather(*(change(batch) for batch in in_batches(numbered)))
        return done


def _fitting(sizes: Sequence[int]) -> list[list[int]]:
    """Places, in batches of at most ten and of no more bytes than SQS takes in one call."""
    batches: list[list[int]] = []
    room = 0
    for place, size in enumerate(sizes):
        if not batches or len(batches[-1]) >= BATCH or size > room:
            batches.append([])
            room = MOST_BYTES
        batches[-1].append(place)
        room -= size
    return batches
