"""Brokers hear of each other's changes by LISTEN and NOTIFY.

What a change came to is sent after its commit, and not in its transaction: the server lets only one
transaction with notifications commit at a time. If a broker dies in between, its peers notice that
it is gone, and look for themselves.

Each broker has one connection for this, and holds an advisory lock on it by which the others see
that it is there. One that is alone sends nothing.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from asyncpg import Connection

from towline_broker.domain.errors import StoreError
from towline_broker.drivers.hearing import outage_of_news
from towline_broker.drivers.interface import Listener, tell
from towline_broker.drivers.sql.postgresql.database import PostgresDatabase
from towline_broker.drivers.sql.transaction import Effects

log = logging.getLogger("towline.broker")

#: Bytes of one notification: the server takes fewer than 8,000.
_MOST_BYTES = 7_000
#: What is kept for peers while it cannot be sent; what goes beyond, they find by looking.
_MOST_ENDED = 100_000
#: Seconds between two looks at who is there, and between two attempts to connect.
_LOOK_AROUND, _RECONNECT = 2.0, 0.5

_CHANNEL = "SELECT 'towline_' || 'towline_notices'::regclass::oid"
_APPEAR = "SELECT pg_advisory_lock_shared('towline_notices'::regclass::oid::int, 0)"
_PEERS = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = 'towline_notices'::regclass AND objid = 0 AND objsubid = 2"
    " AND pid <> pg_backend_pid()"
)
_SEND = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload"
#: Who comes says the first; who was there answers with the second. Whoever gets one of them may
#: have missed something of that broker.
_HELLO, _HERE = "hello", "here"


class Notifications:
    """See :class:`towline_broker.drivers.sql.shared.peers.Peers`."""

    def __init__(
        self,
        database: PostgresDatabase,
        listener: Listener,
        tell_all: Callable[[], Awaitable[None]],
    ) -> None:
        self._database = database
        self._listener = listener
        self._tell_all = tell_all
        self._connection: Connection[Any] | None = None
        self._channel = ""
        #: The server processes of the other brokers' connections.
        self._peers: frozenset[int] = frozenset()
        self._ready: Counter[str] = Counter()
        self._ended: list[str] = []
        self._greetings: list[str] = []
        self._missed = False
        self._outage = outage_of_news()
        #: By ``time.monotonic``: when to look around next.
        self._look_at = 0.0
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self._connect()
        self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task])
        self._drop()

    def tell(self, effects: Effects) -> None:
        if not self._peers:
            return
        self._ready.update(effects.ready)
        if len(self._ended) < _MOST_ENDED:
            self._ended += effects.ended
        self._wake.set()

    # --- the task ---

    async def _work(self) -> None:
        """Sends, looks around, and connects again."""
        while not self._closing:
            try:
                if self._connection is None:
                    await self._connect()
                    self._missed = True
                await self._send()
                if self._missed:
                    self._missed = False
                    await self._tell_all()
                if self._connection is not None:
                    self._outage.works()
                await self._wait()
            except Exception as error:
                self._missed = True
                expected = isinstance(error, StoreError) or self._database.trouble(error)
                self._outage.failed(error, defect=None if expected else error)
                self._drop()
                await asyncio.sleep(_RECONNECT)
        await self._say_the_last()

    async def _connect(self) -> None:
        connection = await self._database.connection({})
        try:
            self._channel = await connection.fetchval(_CHANNEL)
            await connection.add_listener(self._channel, self._hear)
            connection.add_termination_listener(self._lost)
            await connection.execute(_APPEAR)
        except BaseException as error:
            connection.terminate()
            if not isinstance(error, Exception):
                raise
            raise self._database.translated(error) from error
        self._connection = connection
        self._greetings = [_HELLO]
        self._look_at = time.monotonic() + _LOOK_AROUND
        self._wake.set()

    async def _wait(self) -> None:
        left = self._look_at - time.monotonic()
        if left > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()
        self._wake.clear()
        # Also when there is always something to send.
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_AROUND
            await self._look_around()

    async def _look_around(self) -> None:
        if self._connection is None:
            return
        there = frozenset(row[0] for row in await self._connection.fetch(_PEERS))
        if self._peers - there:
            # It may have died between a commit and its notification.
            self._missed = True
            self._wake.set()
        self._peers = there

    async def _send(self) -> None:
        greetings, self._greetings = self._greetings, []
        ready, self._ready = self._ready, Counter()
        ended, self._ended = self._ended, []
        payloads = [*greetings, *_payloads(ready, ended)]
        if payloads and self._connection is not None:
            await self._connection.execute(_SEND, self._channel, payloads)

    async def _say_the_last(self) -> None:
        try:
            await self._send()
        except Exception as error:
            log.debug("the last notification was not sent: %s", error)

    # --- called by the client ---

    def _hear(self, _: object, pid: int, __: str, payload: object) -> None:
        if self._connection is None or pid == self._connection.get_server_pid():
            return
        self._peers |= {pid}
        if payload in (_HELLO, _HERE):
            self._missed = True
            if payload == _HELLO:
                self._greetings.append(_HERE)
            self._wake.set()
            return
        pass_on(str(payload), self._listener)

    def _lost(self, connection: object) -> None:
        if connection is self._connection:
            self._connection = None
            self._outage.failed("the connection was lost")
            self._wake.set()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def pass_on(payload: str, listener: Listener) -> None:
    """What a notification of another broker says. (Anybody can send one: other texts are none.)"""
    try:
        news = json.loads(payload)
    except ValueError:
        return
    if not isinstance(news, dict):
        return
    tell(listener, news.get("ready", {}), news.get("ended", ()))


def _payloads(ready: Counter[str], ended: list[str]) -> Iterator[str]:
    """The news, in pieces that the server takes."""
    queues: dict[str, int] = {}
    ids: list[str] = []
    size = 0
    for queue, count in ready.items():
        queues[queue] = count
        size += len(queue.encode()) + 16
        if size > _MOST_BYTES:
            yield json.dumps({"ready": queues})
            queues, size = {}, 0
    for job_id in ended:
        ids.append(job_id)
        size += len(job_id.encode()) + 4
        if size > _MOST_BYTES:
            yield json.dumps({"ready": queues, "ended": ids})
            queues, ids, size = {}, [], 0
    if queues or ids:
        yield json.dumps({"ready": queues, "ended": ids})
