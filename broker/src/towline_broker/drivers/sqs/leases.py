"""The leases that this broker has granted: SQS knows only that a message is hidden for a time."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from towline_broker.domain.jobs import Leased, LeaseRecord, LeaseRef, Settlement
from towline_broker.domain.time import HOUR, SECOND, Micros
from towline_broker.drivers.interface import ReserveRequest
from towline_broker.drivers.memory.lines import Agenda
from towline_broker.drivers.sqs.memory import Memory
from towline_broker.drivers.sqs.messages import JobMessage
from towline_broker.drivers.sqs.queues import SqsQueue

#: A message stays hidden a little longer than its lease, so that the core takes back a lost lease
#: (and says so) before SQS hands out the message by itself.
MARGIN: Micros = 5 * SECOND
#: The longest that SQS hides a message, counted from when it was received.
MOST_HIDDEN: Micros = 12 * HOUR


class Held:
    """A live lease."""

    __slots__ = (
        "attempt",
        "buried",
        "granted_at",
        "handle",
        "job",
        "length",
        "lock",
        "message_id",
        "queue",
        "ref",
        "request_id",
        "until",
    )

    def __init__(
        self, queue: SqsQueue, job: JobMessage, handle: str, message_id: str, attempt: int
    ) -> None:
        self.queue = queue
        self.job = job
        #: What SQS wants to see for every change; a new one comes with each receive.
        self.handle = handle
        self.message_id = message_id
        self.attempt = attempt
        self.ref = LeaseRef(queue.name, job.id, "")
        self.granted_at: Micros = 0
        self.until: Micros = 0
        self.length: Micros = 0
        self.request_id = ""
        #: A copy is among the dead already, though the message could not be deleted so far.
        self.buried = False
        #: Held while a change of this lease is under way at SQS.
        self.lock = asyncio.Lock()

    def hidden_at_most_until(self) -> Micros:
        return self.granted_at + MOST_HIDDEN

    def seconds_to_hide(self, now: Micros, until: Micros) -> int:
        """Whole seconds from now until then, within what SQS grants."""
        most = max(0, self.hidden_at_most_until() - now - SECOND) // SECOND
        return min(max(0, -(-(until - now) // SECOND)), most)

    def leased(self, memory: Memory) -> Leased:
        note = memory.noted(self.job.id)
        return Leased(
            ref=self.ref,
            type=self.job.type,
            envelope=self.job.envelope,
            attempt=self.attempt,
            lease_until=self.until,
            enqueued_at=self.job.enqueued_at,
            ready_at=note.ready_at if note and note.ready_at else self.job.ready_at,
            failure=note.failure if note and note.failure else self.job.failure,
            progress=note.progress if note else None,
        )

    def record(self) -> LeaseRecord:
        return LeaseRecord(self.ref, self.job.type, self.attempt, self.until, self.job.retry)


class Leases:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._by_ref: dict[LeaseRef, Held] = {}
        self._by_job: dict[str, Held] = {}
        self._requests: dict[str, dict[LeaseRef, Held]] = {}
        self._deadlines: Agenda[LeaseRef] = Agenda()

    def grant(self, held: Held, request: ReserveRequest) -> None:
        held.ref = held.ref._replace(grant=request.grant)
        held.granted_at = request.now
        held.length = request.lease
        held.request_id = request.request_id
        self._by_ref[held.ref] = held
        self._by_job[held.job.id] = held
        if held.request_id:
            self._requests.setdefault(held.request_id, {})[held.ref] = held
        self.extend(held, request.now + request.lease)

    def extend(self, held: Held, until: Micros) -> None:
        held.until = until
        self._deadlines.set(held.ref, until)

    def end(self, held: Held, settlement: Settlement, remember_until: Micros) -> None:
        del self._by_ref[held.ref]
        del self._by_job[held.job.id]
        self._deadlines.discard(held.ref)
        if held.request_id:
            request = self._requests[held.request_id]
            del request[held.ref]
            if not request:
                del self._requests[held.request_id]
        self._memory.settled.put(held.ref, settlement, remember_until)

    def live(self, ref: LeaseRef) -> Held | None:
        return self._by_ref.get(ref)

    def of_job(self, job_id: str) -> Held | None:
        return self._by_job.get(job_id)

    def of_request(self, request_id: str) -> Sequence[Held]:
        return list(self._requests.get(request_id, {}).values()) if request_id else ()

    def overdue(self, now: Micros, limit: int) -> list[Held]:
        return [self._by_ref[ref] for ref in self._deadlines.due(now, limit)]

    def next_deadline(self) -> Micros | None:
        return self._deadlines.first_time()

    @asynccontextmanager
    async def locked(self, refs: Iterable[LeaseRef]) -> AsyncIterator[None]:
        """Until the end of the context no other change of these leases begins. What was live before
        may no longer be so inside."""
        held = {ref: lease for ref in refs if (lease := self._by_ref.get(ref)) is not None}
        async with AsyncExitStack() as stack:
            # Everybody takes them in one order, so that no two wait for each other.
            for ref in sorted(held):
                await stack.enter_async_context(held[ref].lock)
            yield
