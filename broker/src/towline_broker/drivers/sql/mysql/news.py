"""Brokers hear of each other's changes by looking: these servers notify nobody.

Each broker puts what its changes came to into rows of ``towline_news``, numbered, over one
connection, so that they become visible in the order of their numbers; and looks every few
milliseconds for the rows that others have put there since. It does so only while there are others:
their rows in ``towline_peers`` say who is there. A number that is missing, or a broker that is
gone, means that something may have been missed.
"""

# ruff: noqa: S608 - statements are composed of constants

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from towline_broker.domain.errors import StoreError
from towline_broker.drivers.hearing import outage_of_news
from towline_broker.drivers.interface import Listener, tell
from towline_broker.drivers.sql.mysql.database import MySQLDatabase
from towline_broker.drivers.sql.mysql.session import MySQLSession
from towline_broker.drivers.sql.mysql.writers import NOW
from towline_broker.drivers.sql.transaction import Effects

log = logging.getLogger("towline.broker")

#: Seconds between two looks for news; between two looks at who is there; between two attempts to
#: connect.
LOOK, LOOK_AROUND, RECONNECT = 0.005, 0.25, 0.5
#: A broker that has not been seen for so long is gone; in microseconds.
_GONE = 10_000_000
#: News are kept for so long, in seconds: who needs more time finds that some are missing.
_KEPT = 30.0
#: Ids of ended jobs that are kept for the next news; what goes beyond, the others find by looking.
_MOST_ENDED = 100_000

_APPEAR = (
    f"INSERT INTO towline_peers (broker, seen_at) VALUES (?, {NOW})"
    f" ON DUPLICATE KEY UPDATE seen_at = {NOW}"
)
_OTHERS = f"SELECT broker FROM towline_peers WHERE broker <> ? AND seen_at > {NOW} - {_GONE}"
_LEAVE = "DELETE FROM towline_peers WHERE broker = ?"
_FORGET_GONE = f"DELETE FROM towline_peers WHERE seen_at < {NOW} - {_GONE * 6}"
_FORGET_THEIRS = "DELETE FROM towline_news WHERE broker NOT IN (SELECT broker FROM towline_peers)"
_FORGET_OLD = "DELETE FROM towline_news WHERE broker = ? AND serial <= ?"
_SAY = "INSERT INTO towline_news (broker, serial, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_LAST = "SELECT MAX(serial) FROM towline_news WHERE broker = ?"
_HEAR = "SELECT broker, serial, body FROM towline_news WHERE {} ORDER BY broker, serial"
_SINCE = "broker = ? AND serial > ?"


class News:
    """See :class:`towline_broker.drivers.sql.shared.peers.Peers`."""

    def __init__(
        self,
        database: MySQLDatabase,
        listener: Listener,
        tell_all: Callable[[], Awaitable[None]],
    ) -> None:
        self._database = database
        self._listener = listener
        self._tell_all = tell_all
        self._me = secrets.token_hex(16)
        self._session: MySQLSession | None = None
        #: The other brokers, and the number of the last news heard of each.
        self._heard: dict[str, int] = {}
        self._outbox = _Outbox()
        self._missed = False
        self._outage = outage_of_news()
        self._looked_around = 0.0
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
        await self._drop()

    def tell(self, effects: Effects) -> None:
        if self._heard and (effects.ready or effects.ended):
            self._outbox.add(effects)
            self._wake.set()

    # --- the task ---

    async def _work(self) -> None:
        while not self._closing:
            try:
                if self._session is None:
                    await self._connect()
                    self._missed = True
                await self._round(self._session)
                self._outage.works()
            except Exception as error:
                self._missed = True
                expected = isinstance(error, StoreError) or self._database.trouble(error)
                self._outage.failed(error, defect=None if expected else error)
                await self._drop()
                await asyncio.sleep(RECONNECT)
        await self._leave()

    async def _round(self, session: MySQLSession | None) -> None:
        assert session is not None  # noqa: S101 - connected just before
        if time.monotonic() >= self._looked_around + LOOK_AROUND:
            await self._look_around(session)
        await self._say(session)
        await self._hear(session)
        if self._missed:
            self._missed = False
            await self._tell_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK if self._heard else LOOK_AROUND):
                await self._wake.wait()
        self._wake.clear()

    async def _connect(self) -> None:
        session = await self._database.session(changes=True)
        try:
            await session.change(_APPEAR, self._me)
            await session.change(_FORGET_GONE)
            await session.change(_FORGET_THEIRS)
            # What they have said so far, the driver finds by looking once this is open.
            for (broker,) in await session.rows(_OTHERS, self._me):
                ((last,),) = await session.rows(_LAST, broker)
                self._heard[broker] = max(last or 0, self._heard.get(broker, 0))
        except Exception as error:
            await session.close()
            raise self._database.translated(error) from error
        self._looked_around = time.monotonic()
        self._session = session

    async def _look_around(self, session: MySQLSession) -> None:
        self._looked_around = time.monotonic()
        await session.change(_APPEAR, self._me)
        there = {broker for (broker,) in await session.rows(_OTHERS, self._me)}
        for broker in self._heard.keys() - there:
            # It may have died between a commit and its news.
            del self._heard[broker]
            self._missed = True
        for broker in there - self._heard.keys():
            self._heard[broker] = 0
            # It has not been told of anything so far.
            self._outbox.all = True
        old = self._outbox.older_than(time.monotonic() - _KEPT)
        if old:
            await session.change(_FORGET_OLD, self._me, old)

    async def _say(self, session: MySQLSession) -> None:
        body = self._outbox.take()
        if body is None:
            return
        try:
            await session.change(_SAY, self._me, self._outbox.next_serial(), body)
        except Exception:
            # Whether it was said or not: whoever hears the next looks for themselves.
            self._outbox.all = True
            raise

    async def _hear(self, session: MySQLSession) -> None:
        if not self._heard:
            return
        condition = " OR ".join([_SINCE] * len(self._heard))
        wanted = [value for pair in self._heard.items() for value in pair]
        for broker, serial, body in await session.rows(_HEAR.format(condition), *wanted):
            last = self._heard[broker]
            self._heard[broker] = serial
            news = json.loads(bytes(body))
            if news.get("all") or (last and serial != last + 1):
                self._missed = True
            tell(self._listener, news["ready"], news["ended"])

    async def _leave(self) -> None:
        if self._session is None:
            return
        try:
            await self._say(self._session)
            await self._session.change(_LEAVE, self._me)
        except Exception as error:
            log.debug("leaving the other brokers without a word: %s", error)

    async def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class _Outbox:
    """What is to be said next, and when what was said."""

    def __init__(self) -> None:
        #: The others have to look for themselves.
        self.all = False
        self._ready: Counter[str] = Counter()
        self._ended: list[str] = []
        self._serial = 0
        #: Numbers, and since when they were out.
        self._said: list[tuple[int, float]] = []

    def add(self, effects: Effects) -> None:
        self._ready.update(effects.ready)
        if len(self._ended) < _MOST_ENDED:
            self._ended += effects.ended
        else:
            self.all = True

    def take(self) -> bytes | None:
        if not (self.all or self._ready or self._ended):
            return None
        news = {"all": self.all, "ready": dict(self._ready), "ended": self._ended}
        self.all, self._ready, self._ended = False, Counter(), []
        return json.dumps(news).encode()

    def next_serial(self) -> int:
        self._serial += 1
        if not self._said or time.monotonic() > self._said[-1][1] + 1.0:
            self._said.append((self._serial, time.monotonic()))
        return self._serial

    def older_than(self, then: float) -> int:
        """The last number that was out by then; 0: none."""
        found = 0
        while self._said and self._said[0][1] < then:
            found = self._said.pop(0)[0]
        return found
