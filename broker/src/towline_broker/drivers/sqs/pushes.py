"""Push: which jobs are sent, and how it is known that a repeated one was sent before."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from towline_broker.domain.errors import NotSupported, QueueFull, StoreUnavailable
from towline_broker.domain.jobs import JobState, NewJob
from towline_broker.domain.time import SECOND, Micros
from towline_broker.drivers.interface import Capabilities, PushBatch, PushOutcome, PushResult
from towline_broker.drivers.sqs.memory import PUSH_MEMORY, Memory
from towline_broker.drivers.sqs.messages import JobMessage
from towline_broker.drivers.sqs.queues import SqsQueue, SqsQueues
from towline_broker.drivers.sqs.tally import Tally
from towline_broker.drivers.sqs.traffic import Outgoing, Traffic


class Pushes:
    def __init__(self, queues: SqsQueues, traffic: Traffic, memory: Memory, tally: Tally) -> None:
        self._queues = queues
        self._traffic = traffic
        self._memory = memory
        self._tally = tally
        #: Ids that are being sent: a repeat that comes meanwhile has to hear what became of them.
        self._under_way: dict[str, asyncio.Event] = {}

    async def push(
        self, batch: PushBatch, can: Capabilities
    ) -> tuple[list[PushResult], Counter[str]]:
        """The results, and how many jobs of each queue may be received now.

        Raises NotSupported, QueueFull, StoreUnavailable.
        """
        for new in batch.jobs:
            _refuse_what_is_missing(new, batch.now, can)
        await self._wait_for_others(batch.jobs)
        plan = _Plan(self._memory, batch)
        done = asyncio.Event()
        for new in batch.jobs:
            self._under_way.setdefault(new.id, done)
        try:
            queues = await self._queues_of(batch)
            for new in batch.jobs:
                plan.place(new, queues[new.queue])
            return plan.results, await self._send(plan.to_send, queues, batch.now)
        finally:
            for new in batch.jobs:
                if self._under_way.get(new.id) is done:
                    del self._under_way[new.id]
            done.set()

    async def _wait_for_others(self, jobs: Sequence[NewJob]) -> None:
        while others := {self._under_way[new.id] for new in jobs if new.id in self._under_way}:
            for other in others:
                await other.wait()

    async def _queues_of(self, batch: PushBatch) -> dict[str, SqsQueue]:
        """Those that exist, with their depth; the others are made once something is sent."""
        found: dict[str, SqsQueue] = {}
        for name in dict.fromkeys(new.queue for new in batch.jobs):
            queue = await self._queues.find(name, batch.now)
            if queue is not None and name in batch.max_depth:
                await self._queues.live(queue, batch.now)
            found[name] = queue or SqsQueue(name)
        return found

    async def _send(
        self, jobs: Sequence[NewJob], queues: dict[str, SqsQueue], now: Micros
    ) -> Counter[str]:
        by_queue: dict[str, list[NewJob]] = {}
        for new in jobs:
            by_queue.setdefault(new.queue, []).append(new)
        sent = await asyncio.gather(
            *(self._send_to(name, waiting, now) for name, waiting in by_queue.items())
        )
        ready: Counter[str] = Counter()
        for (name, _), taken in zip(by_queue.items(), sent, strict=True):
            ready[name] = sum(_delay_seconds(new, now) == 0 for new in taken)
        if (missing := len(jobs) - sum(map(len, sent))) > 0:
            raise PartlySent(missing, len(jobs), ready)
        return ready

    async def _send_to(self, name: str, jobs: Sequence[NewJob], now: Micros) -> list[NewJob]:
        """Those of the jobs that SQS has taken for sure."""
        messages = [Outgoing(JobMessage.of(new, now), _delay_seconds(new, now)) for new in jobs]
        try:
            queue = await self._queues.made(name)
            taken = await self._traffic.send_to_new(
                lambda again: self._queues.main_url(queue, again=again), messages
            )
        except StoreUnavailable:
            return []
        stored = [new for new, is_taken in zip(jobs, taken, strict=True) if is_taken]
        for new in stored:
            self._memory.jobs.put(new.id, JobState.READY, now + PUSH_MEMORY)
            self._tally.of(name, new.type).pushed += 1
        queue.count(len(stored))
        return stored


class PartlySent(StoreUnavailable):
    """A push of many jobs is many calls of SQS."""

    def __init__(self, missing: int, of: int, ready: Counter[str]) -> None:
        super().__init__(
            f"SQS has not confirmed {missing} of {of} jobs; push all of them again: those that it "
            "has confirmed are known by their ids"
        )
        self.ready = ready


class _Plan:
    def __init__(self, memory: Memory, batch: PushBatch) -> None:
        self._memory = memory
        self._batch = batch
        self._new: set[str] = set()
        self._added: Counter[str] = Counter()
        self.results: list[PushResult] = []
        self.to_send: list[NewJob] = []

    def place(self, new: NewJob, queue: SqsQueue) -> None:
        """Raises QueueFull."""
        outcome = self._outcome(new, queue)
        if outcome is PushOutcome.CREATED:
            self._new.add(new.id)
            self._added[new.queue] += 1
            self.to_send.append(new)
        self.results.append(PushResult(new.id, outcome))

    def _outcome(self, new: NewJob, queue: SqsQueue) -> PushOutcome:
        if new.id in self._memory.jobs or new.id in self._new:
            return PushOutcome.EXISTING
        most = self._batch.max_depth.get(new.queue)
        if most is not None and (queue.depth or 0) + self._added[new.queue] >= most:
            if self._batch.all_or_nothing:
                raise QueueFull(new.queue, most)
            return PushOutcome.QUEUE_FULL
        return PushOutcome.CREATED


def _refuse_what_is_missing(new: NewJob, now: Micros, can: Capabilities) -> None:
    """The services have told the producer already, by field; this is for whoever comes past
    them."""
    asked = {
        "priorities": new.priority != 0,
        "unique keys": new.unique_key is not None,
        "jobs that expire": new.expires_at is not None,
        "keeping jobs that have ended": new.retention > 0,
        "a delay as long as this": new.due_at is not None
        and can.max_delay is not None
        and new.due_at > now + can.max_delay,
        "a job as large as this": can.max_envelope is not None
        and len(new.envelope) > can.max_envelope,
    }
    for what, wanted in asked.items():
        if wanted:
            raise NotSupported(can.name, what)


def _delay_seconds(new: NewJob, now: Micros) -> int:
    """Whole ones, rounded up: a job never comes early."""
    return 0 if new.due_at is None else max(0, -(-(new.due_at - now) // SECOND))
