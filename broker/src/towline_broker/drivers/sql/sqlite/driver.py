"""The driver for ``sqlite:`` URLs."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.time import Micros
from towline_broker.drivers.disk import free_bytes
from towline_broker.drivers.health import Health
from towline_broker.drivers.interface import (
    Capabilities,
    Durability,
    Listener,
    PushBatch,
    PushResult,
    SoleOwner,
)
from towline_broker.drivers.sql import pushes
from towline_broker.drivers.sql.driver import SqlDriver, room_of
from towline_broker.drivers.sql.sqlite.connection import (
    SqliteReader,
    driver_connection,
    unused_bytes,
)
from towline_broker.drivers.sql.sqlite.errors import translated
from towline_broker.drivers.sql.sqlite.store import OpenStore, open_store
from towline_broker.drivers.sql.sqlite.url import SqliteUrl, parse
from towline_broker.drivers.sql.sqlite.writer import NONE, Writer
from towline_broker.drivers.sql.transaction import Operation, Query, T, run


def open_sqlite(url: str) -> "SqliteDriver":
    """The driver for a ``sqlite:`` URL; raises StoreRefused if the URL is not of that form."""
    return SqliteDriver(parse(url))


class _Opened:
    """What there is between open and close: the writer's thread, the reader's, and the store."""

    def __init__(self, store: OpenStore, listener: Listener, why_full: Callable[[int], str | None]):
        self.store = store
        self.health = Health()
        self.writer = Writer(
            *(store.writing, store.names, store.sequence, store.checkpoints, store.mark),
            *(self.health, listener, why_full),
        )
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="towline-sqlite-reader")

    async def read(self, query: Query[T]) -> T:
        self.health.check()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.reader, self._play, query)

    async def close(self) -> None:
        await self.writer.stop()
        await asyncio.to_thread(self.reader.shutdown)
        await asyncio.to_thread(self.store.close, checkpoint=self.health.sound)

    def _play(self, query: Query[T]) -> T:
        """On the reader's thread: a query sees one state of the store, and keeps it no longer."""
        sqlite = driver_connection(self.store.reading)
        try:
            sqlite.execute("BEGIN")
            try:
                return run(query(SqliteReader(self.store.reading)))
            finally:
                if sqlite.in_transaction:
                    sqlite.execute("COMMIT")
        except Exception as error:
            failure = translated(error)
            self.health.note(failure)
            raise failure from error


#: Of so many jobs at most is told before they are there: where there are more, whoever waits is no
#: longer idle.
MOST_COMING = 16


class SqliteDriver(SqlDriver, SoleOwner):
    """See :class:`towline_broker.drivers.interface.Driver`.

    Changes go to the writer's thread, which commits those that wait together. Looking goes to a
    thread and a connection of its own and sees everything that was committed before it began.
    """

    def __init__(self, url: SqliteUrl, free_bytes: Callable[[Path], int] = free_bytes) -> None:
        self._path = url.path.resolve()
        self._min_free_bytes = url.min_free_bytes
        self._upgrade = url.upgrade
        self._check = url.check
        self._free_bytes = free_bytes
        self._opened: _Opened | None = None
        # Made once: each call asks for them.
        self._capabilities = Capabilities(
            name="sqlite",
            durability=Durability.DURABLE,
            durability_note="each commit is synced to the disk (WAL, synchronous=FULL)",
            folder=self._path.parent,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def open(self, now: Micros, listener: Listener) -> Micros:
        store = await asyncio.to_thread(
            open_store, self._path, now, upgrade=self._upgrade, check=self._check
        )
        self._opened = _Opened(store, listener, self._why_full)
        for queue, count in store.ready.items():
            listener.jobs_ready(queue, count)
        return store.clock

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    async def push(self, batch: PushBatch) -> list[PushResult]:
        return await self._open.writer.submit(
            partial(pushes.push, batch=batch),
            now=batch.now,
            items=len(batch.jobs),
            room=room_of(batch.jobs),
            coming=_coming_of(batch),
        )

    async def _change(
        self, operation: Operation[T], *, now: Micros = 0, items: int = 1, room: int = 0
    ) -> T:
        return await self._open.writer.submit(operation, now=now, items=items, room=room)

    async def _read(self, query: Query[T], *, snapshot: bool = True) -> T:
        return await self._open.read(query)

    @property
    def _open(self) -> _Opened:
        if self._opened is None:
            raise StoreUnavailable("the store is not open")
        return self._opened

    def _why_full(self, room: int) -> str | None:
        """On the writer's thread: why so many bytes of new jobs have no room, None if they have."""
        try:
            free = self._free_bytes(self._path.parent)
        except OSError as error:
            return f"how much room the disk of the store has cannot be told: {error.strerror}"
        needed = self._min_free_bytes + room
        if free >= needed:
            return None
        # The file does not shrink: what settled jobs have left in it is room, too.
        unused = unused_bytes(self._open.store.writing)
        if free + unused >= needed:
            return None
        return (
            f"the disk of the store has {free} bytes free, and its file {unused}; new jobs may "
            f"leave no less than {self._min_free_bytes} (min_free_bytes); running jobs can still "
            "be settled"
        )


def _coming_of(batch: PushBatch) -> Mapping[str, int]:
    """How many jobs of which queue will be READY by it, if all goes well."""
    jobs, now = batch.jobs, batch.now
    if len(jobs) > MOST_COMING:
        return NONE
    queues = [job.queue for job in jobs if job.due_at is None or job.due_at <= now]
    return {queues[0]: 1} if len(queues) == 1 else Counter(queues)
