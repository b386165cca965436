"""A connection that is opened again after it was lost."""

import asyncio
import random
import time

from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.drivers.sql.shared.session import Database, Session

#: Seconds between two attempts to connect: they grow from the first to the second number.
_BACKOFF = (0.05, 1.0)


class Link:
    def __init__(self, database: Database, *, changes: bool) -> None:
        self._database = database
        self._changes = changes
        self._session: Session | None = None

    async def open(self) -> None:
        """Raises StoreRefused and StoreUnavailable at once."""
        self._session = await self._database.connect(changes=self._changes)

    async def session(self, deadline: float) -> Session:
        """The open session, or a new one; tries until then (by ``time.monotonic``).

        Raises StoreUnavailable.
        """
        pause, most = _BACKOFF
        while self._session is None or self._session.closed:
            try:
                self._session = await self._database.connect(changes=self._changes)
            except StoreRefused as error:
                # It was ours when the broker started: somebody is at work on it.
                raise StoreUnavailable(str(error)) from error
            except StoreUnavailable:
                pause = min(pause * random.uniform(1.5, 2.0), most)  # noqa: S311 - no secret
                if time.monotonic() + pause > deadline:
                    raise
                await asyncio.sleep(pause)
        return self._session

    async def drop(self) -> None:
        """The session is of no use any more."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
