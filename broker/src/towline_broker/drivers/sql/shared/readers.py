"""The connections that look."""

import asyncio
import time

from towline_broker.domain.errors import StoreUnavailable, TowlineError
from towline_broker.drivers.sql.shared.heads import TimeHeads
from towline_broker.drivers.sql.shared.links import Link
from towline_broker.drivers.sql.shared.session import Database, Session, Trouble
from towline_broker.drivers.sql.shared.transaction import SharedReader
from towline_broker.drivers.sql.transaction import Query, T

#: How often a question is asked if its connection is lost meanwhile.
_TRIES = 3


class Readers:
    def __init__(self, database: Database, count: int, heads: TimeHeads, patience: float) -> None:
        self._database = database
        self._heads = heads
        self._patience = patience
        self._links = [Link(database, changes=False) for _ in range(count)]
        self._free: asyncio.LifoQueue[Link] = asyncio.LifoQueue()
        for link in self._links:
            self._free.put_nowait(link)

    async def open(self) -> None:
        """One connection; the others when they are needed. Raises StoreRefused and
        StoreUnavailable."""
        await self._links[-1].open()

    async def read(self, query: Query[T], *, snapshot: bool) -> T:
        """``snapshot``: all its statements see the same state. Else each sees what is committed
        when it begins."""
        deadline = time.monotonic() + self._patience
        try:
            async with asyncio.timeout(self._patience):
                link = await self._free.get()
        except TimeoutError:
            raise StoreUnavailable("the store has more questions than it can answer") from None
        try:
            return await self._ask(link, query, snapshot, deadline)
        finally:
            self._free.put_nowait(link)

    async def close(self) -> None:
        for link in self._links:
            await link.drop()

    async def _ask(self, link: Link, query: Query[T], snapshot: bool, deadline: float) -> T:
        tries = 0
        while True:
            session = await link.session(deadline)
            try:
                return await self._answer(session, query, snapshot)
            except TowlineError:
                # The answer to a question that was wrong.
                if snapshot:
                    await session.rollback()
                raise
            except Exception as error:
                # What state the connection is in is not worth finding out.
                await link.drop()
                tries += 1
                lost = self._database.trouble(error) is Trouble.LOST
                if lost and tries < _TRIES and time.monotonic() < deadline:
                    continue
                if lost:
                    raise StoreUnavailable("the connection to the store broke") from error
                raise self._database.translated(error) from error

    async def _answer(self, session: Session, query: Query[T], snapshot: bool) -> T:
        if not snapshot:
            return await query(SharedReader(session, self._heads))
        await session.begin_snapshot()
        answer = await query(SharedReader(session, self._heads))
        await session.commit()
        return answer
