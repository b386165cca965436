"""The driver of a SQL store that brokers share, whatever its database."""

import asyncio
import logging
from functools import partial

from towline_broker.domain.errors import StoreError, StoreUnavailable
from towline_broker.domain.jobs import Leased
from towline_broker.domain.time import HOUR, Micros
from towline_broker.drivers.interface import (
    AckBatch,
    Capabilities,
    Listener,
    PushBatch,
    PushResult,
    ReserveRequest,
    Settled,
)
from towline_broker.drivers.sql import acks, claims, pushes, schema
from towline_broker.drivers.sql.driver import SqlDriver, room_of
from towline_broker.drivers.sql.shared.lanes import Lanes
from towline_broker.drivers.sql.shared.memory import Memory
from towline_broker.drivers.sql.shared.peers import Peers
from towline_broker.drivers.sql.shared.readers import Readers
from towline_broker.drivers.sql.shared.ready import ONCE_MORE
from towline_broker.drivers.sql.shared.room import Room
from towline_broker.drivers.sql.transaction import Operation, Query, Reader, T, Transaction

log = logging.getLogger("towline.broker")

_READY = (
    "SELECT q.name, SUM(c.ready) FROM towline_counters c JOIN towline_kinds k ON k.id = c.kind"
    " JOIN towline_queues q ON q.id = k.queue GROUP BY q.name HAVING SUM(c.ready) > 0"
)
#: As many as one call can take; whoever comes next looks again.
_PASSED_OVER = (
    "SELECT q.name, COUNT(*) FROM"
    " (SELECT queue FROM towline_jobs WHERE queue = ? AND state = 2 LIMIT 1000) found"
    " JOIN towline_queues q ON q.id = found.queue GROUP BY q.name"
)
_LATELY_ENDED = (
    "SELECT job_id FROM towline_settled WHERE state IS NOT NULL"
    " ORDER BY remember_until DESC LIMIT 5000"
)
_LATELY_DEAD = "SELECT id FROM towline_jobs WHERE state = 5 ORDER BY finished_at DESC LIMIT 5000"
_NOTICES = "SELECT broker, notice FROM towline_notices WHERE until > ?"
_TAKE_DOWN = "DELETE FROM towline_notices WHERE broker = ? OR until < ?"


class _Opened:
    """What there is between open and close."""

    def __init__(self, room: Room, listener: Listener) -> None:
        self._listener = listener
        memory = Memory()
        self._lines = memory.lines
        #: By queue, and by whether they are the last look after a claim that came back short.
        self._timers: dict[tuple[int, bool], asyncio.TimerHandle] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self._peers: Peers = room.peers(listener, self._tell_all)
        self.readers = Readers(room.database, room.readers, memory.heads, room.patience)
        self.lanes = Lanes(
            *(room.database, room.lanes, memory, self._look_later),
            *(listener, self._peers, room.patience),
        )

    async def open(self) -> None:
        """Raises StoreRefused and StoreUnavailable."""
        await self.readers.open()
        await self.lanes.open()
        # Whatever is changed from here on is told of; what was changed before is found now.
        await self._peers.open()
        await self._tell_ready()

    async def close(self) -> None:
        # First, because the last claims may set timers yet.
        await self.lanes.stop()
        for timer in self._timers.values():
            timer.cancel()
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)
        await self._peers.close()
        await self.readers.close()

    async def _tell_all(self) -> None:
        """News may have been missed: of jobs that ended, those of late are told of."""

        async def ended(reader: Reader) -> list[str]:
            rows = [*await reader.rows(_LATELY_ENDED), *await reader.rows(_LATELY_DEAD)]
            return [row[0] for row in rows]

        self._listener.jobs_ended(await self.readers.read(ended, snapshot=False))
        await self._tell_ready()

    async def _tell_ready(self) -> None:
        async def ready(reader: Reader) -> dict[str, int]:
            return {queue: int(count) for queue, count in await reader.rows(_READY)}

        for queue, count in (await self.readers.read(ready, snapshot=False)).items():
            self._listener.jobs_ready(queue, count)

    def _look_later(self, queue: int, pause: float) -> None:
        timer = (queue, pause == ONCE_MORE)
        if timer not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[timer] = loop.call_later(pause, self._start_looking, timer)

    def _start_looking(self, timer: tuple[int, bool]) -> None:
        del self._timers[timer]
        queue, _ = timer
        task = asyncio.get_running_loop().create_task(self._look(queue))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _look(self, queue: int) -> None:
        async def passed_over(reader: Reader) -> list[tuple[str, int]]:
            return [(row[0], int(row[1])) for row in await reader.rows(_PASSED_OVER, queue)]

        began = self._lines.now()
        try:
            found = await self.readers.read(passed_over, snapshot=False)
        except StoreError as error:
            log.debug("looking for jobs that were passed over: %s", error)
            found = []
            self._look_later(queue, ONCE_MORE)
        self._lines.looked(queue, began)
        for name, count in found:
            self._lines.forget(queue)
            self._listener.jobs_ready(name, count)


class SharedSqlDriver(SqlDriver):
    """See :class:`towline_broker.drivers.interface.Driver`.

    Changes go to a few connections, each of which commits together what waits; looking goes to
    connections of its own.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._opened: _Opened | None = None

    @property
    def capabilities(self) -> Capabilities:
        return self._room.capabilities

    async def open(self, now: Micros, listener: Listener) -> Micros:
        await self._room.prepare()
        opened = _Opened(self._room, listener)
        try:
            await opened.open()
            self._opened = opened
            return await self.time(now)
        except BaseException:
            self._opened = None
            await opened.close()
            raise

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    async def time(self, now: Micros) -> Micros:
        async def clock(reader: Reader) -> Micros:
            return int((await reader.rows(self._room.clock))[0][0])

        return await self._open.readers.read(clock, snapshot=False)

    async def post(self, broker_id: str, notice: bytes, until: Micros) -> None:
        async def put_up(transaction: Transaction) -> None:
            # Those of brokers that went without a word go, too.
            await transaction.change(_TAKE_DOWN, broker_id, until - HOUR)
            if notice:
                await transaction.put_many(schema.notices, [(broker_id, notice, until)])

        await self._change(put_up)

    async def notices(self, now: Micros) -> dict[str, bytes]:
        async def read(reader: Reader) -> dict[str, bytes]:
            return {row[0]: bytes(row[1]) for row in await reader.rows(_NOTICES, now)}

        return await self._open.readers.read(read, snapshot=False)

    # --- what may be joined with other calls ---

    async def push(self, batch: PushBatch) -> list[PushResult]:
        operation = partial(pushes.push, batch=batch)
        return await self._open.lanes.submit(
            operation, items=len(batch.jobs), room=room_of(batch.jobs), request=batch
        )

    async def reserve(self, request: ReserveRequest) -> list[Leased]:
        operation = partial(claims.reserve, request=request)
        return await self._open.lanes.submit(
            operation, items=request.max_jobs, room=0, request=request
        )

    async def ack(self, batch: AckBatch) -> list[Settled]:
        operation = partial(acks.ack, batch=batch)
        return await self._open.lanes.submit(
            operation, items=len(batch.acks), room=0, request=batch
        )

    async def _change(
        self, operation: Operation[T], *, now: Micros = 0, items: int = 1, room: int = 0
    ) -> T:
        return await self._open.lanes.submit(operation, items=items, room=room)

    async def _read(self, query: Query[T], *, snapshot: bool = True) -> T:
        return await self._open.readers.read(query, snapshot=snapshot)

    @property
    def _open(self) -> _Opened:
        if self._opened is None:
            raise StoreUnavailable("the store is not open")
        return self._opened
