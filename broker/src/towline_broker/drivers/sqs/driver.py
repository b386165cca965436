"""The SQS driver: the Driver interface, but for what its capabilities name as missing."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from towline_broker.domain.errors import StoreRefused
from towline_broker.domain.jobs import (
    Counts,
    Leased,
    LeaseRecord,
    LeaseRef,
)
from towline_broker.domain.time import MINUTE, SECOND, Micros
from towline_broker.drivers.interface import (
    AckBatch,
    Capabilities,
    DeadSelection,
    Durability,
    ExtendBatch,
    Extended,
    Handled,
    Listener,
    NackBatch,
    PurgeRequest,
    PushBatch,
    PushResult,
    QueueState,
    ReserveRequest,
    Settled,
    SoleOwner,
    tell,
)
from towline_broker.drivers.sqs.claims import Claims
from towline_broker.drivers.sqs.connection import Connection, Denied
from towline_broker.drivers.sqs.dead_letters import DeadLetters
from towline_broker.drivers.sqs.extending import Extending
from towline_broker.drivers.sqs.leases import Leases
from towline_broker.drivers.sqs.memory import Memory
from towline_broker.drivers.sqs.messages import MOST_ENVELOPE
from towline_broker.drivers.sqs.missing import MISSING, Missing
from towline_broker.drivers.sqs.purging import Purging
from towline_broker.drivers.sqs.pushes import PartlySent, Pushes
from towline_broker.drivers.sqs.queues import SqsQueues
from towline_broker.drivers.sqs.settles import Results, Settles
from towline_broker.drivers.sqs.tally import Tally
from towline_broker.drivers.sqs.traffic import Traffic
from towline_broker.drivers.sqs.url import Options

NOTE = (
    "Amazon SQS keeps each message on several servers, for 14 days: A JOB THAT IS NOT DONE BY THEN "
    "IS DROPPED BY SQS, WITHOUT A TRACE. Leases and the memory of what was settled live in this "
    "broker: when it ends, jobs that are leased come again after their leases."
)
MAX_DELAY: Micros = 15 * MINUTE


class SqsDriver(Missing, SoleOwner):
    """Knows of changes by other brokers only what SQS tells when it is asked."""

    def __init__(self, options: Options) -> None:
        self._connection = Connection(options)
        self._queues = SqsQueues(self._connection, options)
        self._memory = Memory()
        self._leases = Leases(self._memory)
        self._tally = Tally()
        traffic = Traffic(self._connection, options.fifo)
        known = (self._queues, traffic, self._memory)
        self._pushes = Pushes(*known, self._tally)
        self._claims = Claims(*known, self._leases, self._tally)
        self._settles = Settles(*known, self._leases, self._tally)
        self._extending = Extending(traffic, self._memory, self._leases)
        self._dead = DeadLetters(*known, self._tally)
        self._purging = Purging(*known, self._leases, self._tally)
        self._listener: Listener | None = None
        self._capabilities = Capabilities(
            name="sqs",
            durability=Durability.DURABLE,
            durability_note=NOTE,
            missing=MISSING,
            max_delay=0 if options.fifo else MAX_DELAY,
            max_envelope=MOST_ENVELOPE,
            poll_interval=SECOND,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def open(self, now: Micros, listener: Listener) -> Micros:
        """SQS has no lock: what several brokers on one set of queues mean is told in the docs."""
        await self._connection.open()
        self._queues.it_is(now)
        try:
            await self._queues.refresh()
            queues = self._queues.all()
            depths = await asyncio.gather(*map(self._queues.depth, queues))
        except Denied as error:
            raise StoreRefused(str(error)) from None
        self._listener = listener
        self._tell(ready=Counter({q.name: d.ready for q, d in zip(queues, depths, strict=True)}))
        return 0

    async def close(self) -> None:
        self._listener = None
        await self._connection.close()

    def _tell(self, ready: "Counter[str] | None" = None, ended: Sequence[str] = ()) -> None:
        if self._listener is not None:
            tell(self._listener, ready or {}, ended)

    # --- jobs ---------------------------------------------------------------------------------

    async def push(self, batch: PushBatch) -> list[PushResult]:
        try:
            results, ready = await self._pushes.push(batch, self._capabilities)
        except PartlySent as partly:
            self._tell(partly.ready)
            raise
        self._tell(ready)
        return results

    # --- leases -------------------------------------------------------------------------------

    async def reserve(self, request: ReserveRequest) -> list[Leased]:
        return await self._claims.reserve(request)

    async def leases(self, refs: Sequence[LeaseRef]) -> list[LeaseRecord | None]:
        found = (self._leases.live(ref) for ref in refs)
        return [None if held is None else held.record() for held in found]

    async def ack(self, batch: AckBatch) -> list[Settled]:
        return self._settled(await self._settles.ack(batch))

    async def nack(self, batch: NackBatch) -> list[Settled]:
        return self._settled(await self._settles.nack(batch))

    def _settled(self, results: Results) -> list[Settled]:
        self._tell(results.ready, results.ended)
        return results.known()

    async def extend(self, batch: ExtendBatch) -> list[Extended]:
        return await self._extending.extend(batch)

    # --- upkeep -------------------------------------------------------------------------------

    async def promote(self, now: Micros, limit: int) -> int:
        """SQS makes delayed messages visible by itself."""
        return 0

    async def expire(self, now: Micros, limit: int) -> int:
        return 0

    async def expired_leases(self, now: Micros, limit: int) -> list[LeaseRecord]:
        """Those that this broker granted. The others come back by themselves."""
        return [held.record() for held in self._leases.overdue(now, limit)]

    async def forget(self, now: Micros, limit: int) -> int:
        self._queues.it_is(now)
        return self._memory.forget(now, limit)

    async def next_due(self) -> Micros | None:
        return self._leases.next_deadline()

    # --- dead letters -------------------------------------------------------------------------

    async def count_dead(self, selection: DeadSelection) -> int:
        return await self._dead.count(selection)

    async def requeue_dead(self, selection: DeadSelection) -> Handled:
        handled, queues = await self._dead.requeue(selection)
        self._tell(Counter(queues))
        return handled

    async def discard_dead(self, selection: DeadSelection, remember_until: Micros) -> Handled:
        return await self._dead.discard(selection, remember_until)

    # --- queues -------------------------------------------------------------------------------

    async def queues(self) -> list[QueueState]:
        return [QueueState(each.name, each.paused) for each in await self._queues.current()]

    async def set_paused(self, queue: str, paused: bool) -> bool:
        found = await self._queues.existing(queue)
        changed = await self._queues.set_paused(found, paused)
        if changed and not paused:
            self._tell(Counter({queue: (await self._queues.depth(found)).ready}))
        return changed

    async def purge(self, request: PurgeRequest) -> Handled:
        handled, ended = await self._purging.purge(request)
        self._tell(ended=ended)
        return handled

    async def counts(self) -> list[Counts]:
        """Depths by queue, approximately: they stand with the type "". Totals by type, of this
        broker."""
        queues = self._queues.all()
        depths = await asyncio.gather(*map(self._queues.depth, queues))
        return [
            *(Counts(queue.name, "", depth) for queue, depth in zip(queues, depths, strict=True)),
            *self._tally.counts(),
        ]

    async def oldest_ready(self) -> dict[str, Micros]:
        """SQS tells the age of its oldest message only to CloudWatch."""
        return {}

    async def reset_totals(self) -> None:
        self._tally.reset()
