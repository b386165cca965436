"""The SQS queues of a store: made at the first push, found again by their prefix."""

import asyncio
from collections.abc import Sequence
from typing import Any

from towline_broker.domain.errors import QueueNotFound
from towline_broker.domain.jobs import Depth
from towline_broker.domain.time import SECOND, Micros
from towline_broker.drivers.sqs.connection import Connection, QueueGone
from towline_broker.drivers.sqs.names import from_sqs, to_sqs
from towline_broker.drivers.sqs.url import Options

#: The longest that SQS keeps a message, in seconds: 14 days.
RETENTION_SECONDS = 1_209_600
PAUSED = "towline-paused"
#: What another broker has made is looked for this often at most, and whether it has paused what is
#: known, which is a call for each queue, this often. SQS is paid by the call.
LOOK_AGAIN: Micros = 5 * SECOND
PAUSE_HOLDS: Micros = 30 * SECOND
#: For so long the depth is counted on from what SQS last told.
DEPTH_HOLDS: Micros = 10 * SECOND

_COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
)


class SqsQueue:
    __slots__ = ("dead_url", "depth", "depth_at", "name", "paused", "paused_at", "url")

    def __init__(self, name: str) -> None:
        self.name = name
        #: Empty: not made so far.
        self.url = ""
        self.dead_url = ""
        self.paused = False
        #: When SQS was asked for it.
        self.paused_at: Micros | None = None
        #: About how many live jobs there are; None: not known.
        self.depth: int | None = None
        self.depth_at: Micros = 0

    def count(self, change: int) -> None:
        if self.depth is not None:
            self.depth = max(0, self.depth + change)


class SqsQueues:
    def __init__(self, connection: Connection, options: Options) -> None:
        self._connection = connection
        self._options = options
        self._queues: dict[str, SqsQueue] = {}
        self._making = asyncio.Lock()
        self._looked_at: Micros | None = None
        #: The latest time that was told.
        self._now: Micros = 0

    def it_is(self, now: Micros) -> None:
        self._now = max(self._now, now)

    def all(self) -> list[SqsQueue]:
        return [queue for _, queue in sorted(self._queues.items()) if queue.url]

    async def current(self) -> list[SqsQueue]:
        """All, as they were found some seconds ago at most."""
        if self._looked_at is None or self._now >= self._looked_at + LOOK_AGAIN:
            await self.refresh()
        return self.all()

    async def refresh(self) -> None:
        """Finds the queues that there are, and which of them are paused."""
        self._looked_at = self._now
        found: dict[str, SqsQueue] = {}
        more: dict[str, str] = {}
        while True:
            page = await self._connection.call(
                "list_queues", QueueNamePrefix=self._options.prefix, MaxResults=1000, **more
            )
            for url in page.get("QueueUrls", ()):
                self._note(url, found)
            if not page.get("NextToken"):
                break
            more = {"NextToken": page["NextToken"]}
        # One that was made a moment ago may be missing from the list: it stays.
        self._queues |= found
        stale = [
            queue
            for queue in self.all()
            if queue.paused_at is None or self._now >= queue.paused_at + PAUSE_HOLDS
        ]
        await asyncio.gather(*map(self._read_pause, stale))

    def _note(self, url: str, found: dict[str, SqsQueue]) -> None:
        named = from_sqs(url.rpartition("/")[2], self._options)
        if named is None:
            return
        name, dead = named
        queue = found.get(name)
        if queue is None:
            queue = found[name] = self._queues.get(name) or SqsQueue(name)
        if dead:
            queue.dead_url = url
        else:
            queue.url = url

    async def _read_pause(self, queue: SqsQueue) -> None:
        queue.paused_at = self._now
        try:
            tags = await self._connection.call("list_queue_tags", QueueUrl=queue.url)
        except QueueGone:
            return
        queue.paused = PAUSED in tags.get("Tags", {})

    async def find(self, name: str, now: Micros) -> SqsQueue | None:
        """Looks at SQS for one that is not known, but not for every call."""
        self.it_is(now)
        queue = self._queues.get(name)
        if queue is None or not queue.url:
            await self.current()
            queue = self._queues.get(name)
        return queue if queue is not None and queue.url else None

    async def existing(self, name: str) -> SqsQueue:
        """Raises QueueNotFound."""
        queue = self._queues.get(name)
        if queue is None or not queue.url:
            await self.refresh()
            queue = self._queues.get(name)
        if queue is None or not queue.url:
            raise QueueNotFound(name)
        return queue

    async def made(self, name: str, *, again: bool = False) -> SqsQueue:
        """The queue, made if there is none. ``again``: SQS did not know the one we knew."""
        queue = self._queues.get(name)
        if queue is None or not queue.url or again:
            sqs_name = to_sqs(name, self._options)
            async with self._making:
                queue = self._queues.get(name) or SqsQueue(name)
                if not queue.url or again:
                    queue.url = await self._make(sqs_name)
                    self._queues[name] = queue
        return queue

    async def main_url(self, queue: SqsQueue, *, again: bool = False) -> str:
        return (await self.made(queue.name, again=again)).url

    async def dead_url(self, queue: SqsQueue, *, again: bool = False) -> str:
        """That of the companion for dead jobs, made if there is none."""
        if not queue.dead_url or again:
            async with self._making:
                if not queue.dead_url or again:
                    name = to_sqs(queue.name, self._options, dead=True)
                    queue.dead_url = await self._make(name)
        return queue.dead_url

    async def _make(self, name: str) -> str:
        """One that is there already is taken as it is, whatever its attributes."""
        try:
            found = await self._connection.call("get_queue_url", QueueName=name)
            return str(found["QueueUrl"])
        except QueueGone:
            return await self._create(name)

    async def _create(self, name: str) -> str:
        attributes = {"MessageRetentionPeriod": str(RETENTION_SECONDS)}
        if self._options.fifo:
            # Each job is a group of its own: none waits for another, and none is dropped for it.
            attributes |= {
                "FifoQueue": "true",
                "DeduplicationScope": "messageGroup",
                "FifoThroughputLimit": "perMessageGroupId",
            }
        made = await self._connection.call("create_queue", QueueName=name, Attributes=attributes)
        return str(made["QueueUrl"])

    async def set_paused(self, queue: SqsQueue, paused: bool) -> bool:
        """Raises QueueNotFound, if it was deleted."""
        await self._read_pause(queue)
        if queue.paused == paused:
            return False
        call = self._connection.call
        try:
            if paused:
                await call("tag_queue", QueueUrl=queue.url, Tags={PAUSED: "true"})
            else:
                await call("untag_queue", QueueUrl=queue.url, TagKeys=[PAUSED])
        except QueueGone:
            raise QueueNotFound(queue.name) from None
        queue.paused = paused
        return True

    async def depth(self, queue: SqsQueue) -> Depth:
        """As SQS tells it: approximately."""
        waiting, dead = await asyncio.gather(self._count(queue.url), self._count(queue.dead_url))
        ready, delayed, hidden = waiting
        return Depth(scheduled=delayed, ready=ready, leased=hidden, dead=sum(dead))

    async def _count(self, url: str) -> Sequence[int]:
        if not url:
            return (0, 0, 0)
        try:
            answer: dict[str, Any] = await self._connection.call(
                "get_queue_attributes", QueueUrl=url, AttributeNames=list(_COUNTS)
            )
        except QueueGone:
            return (0, 0, 0)
        return [int(answer.get("Attributes", {}).get(name, 0)) for name in _COUNTS]

    async def live(self, queue: SqsQueue, now: Micros) -> int:
        """About how many jobs are SCHEDULED, READY or LEASED."""
        if queue.depth is None or now >= queue.depth_at + DEPTH_HOLDS:
            queue.depth = sum(await self._count(queue.url))
            queue.depth_at = now
        return queue.depth
