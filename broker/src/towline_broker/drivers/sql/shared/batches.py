"""One transaction with what waits together: played, committed, and its outcome found out if it was
lost."""

import asyncio
import time
from collections.abc import Callable, Container, Sequence
from typing import Any

from towline_broker.domain.errors import NoRoom, StoreFull, StoreUnavailable, TowlineError
from towline_broker.drivers.sql.names import Names, UnknownKind
from towline_broker.drivers.sql.shared.hot import Hot
from towline_broker.drivers.sql.shared.joined import Joined, NotSimple, Request
from towline_broker.drivers.sql.shared.links import Link
from towline_broker.drivers.sql.shared.memory import Memory
from towline_broker.drivers.sql.shared.session import Database, Outcome, Session, Trouble
from towline_broker.drivers.sql.shared.transaction import LookAgain, SharedTransaction
from towline_broker.drivers.sql.submitted import Submitted
from towline_broker.drivers.sql.tally import Tally
from towline_broker.drivers.sql.transaction import Effects, Operation, Raced

#: Seconds for which Push is not joined after a job was there already: producers that repeat
#: themselves do so often, and each time a transaction is lost.
CAREFUL = 1.0
#: Seconds between two questions for the outcome of a transaction.
_ASK_AGAIN = 0.1


class PlayAgain(Exception):
    """Nothing of the batch stands, and playing it again may well succeed.

    ``at_once``: it was nobody else who stood in the way."""

    def __init__(self, cause: Exception, *, at_once: bool = False) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.at_once = at_once


class PlayAlone(Exception):
    """Nothing of the batch stands: one of it failed and would have taken the others along."""


class SubmittedUntil(Submitted):
    """No attempt begins after the deadline, which is one of ``time.monotonic``."""

    __slots__ = ("deadline", "request")

    def __init__(
        self,
        operation: Operation[Any],
        answer: asyncio.Future[Any],
        deadline: float,
        items: int,
        room: int,
        request: Request | None = None,
    ) -> None:
        """``request``: what the operation does, if it may be joined with others."""
        super().__init__(operation, answer, items, room)
        self.deadline = deadline
        self.request = request

    def fail(self, error: Exception) -> None:
        if isinstance(error, StoreFull) and not self.room:
            error = NoRoom("the disk of the store is full: nothing was changed")
        super().fail(error)


class Batches:
    """Of one lane: over its connection, with the names that it knows."""

    def __init__(
        self,
        database: Database,
        link: Link,
        memory: Memory,
        look_again: LookAgain,
        patience: float,
    ) -> None:
        """``patience``: seconds for finding out what became of a commit."""
        self._database = database
        self._link = link
        self._memory = memory
        self._look_again = look_again
        self._patience = patience
        self._names = Names()
        #: Until then, by ``time.monotonic``, Push is not joined.
        self._careful_until = 0.0

    async def commit(self, batch: Sequence[SubmittedUntil], played: Callable[[], None]) -> None:
        """Gives each its result or its error. ``played``: is told before the commit.

        Raises PlayAgain, PlayAlone, and what else concerns them all: then none has one.
        """
        session = await self._link.session(min(submitted.deadline for submitted in batch))
        transactions: list[SharedTransaction] = []
        try:
            await self._play(session, batch, transactions)
            played()
            await self._commit(session)
        except Exception as error:
            await self._undo(session, transactions, error)
            raise
        finally:
            for transaction in transactions:
                transaction.over()
        self._names.keep()

    async def _play(
        self, session: Session, batch: Sequence[SubmittedUntil], played: list[SharedTransaction]
    ) -> None:
        await session.begin()
        tally = Tally()
        if session.hot is not None:
            done = await self._play_joined(session, session.hot, batch, played, tally)
            batch = [submitted for place, submitted in enumerate(batch) if place not in done]
        for submitted in batch:
            transaction = SharedTransaction(session, self._names, self._memory, self._look_again)
            played.append(transaction)
            try:
                result = await submitted.operation(transaction)
            except Exception as error:
                if isinstance(error, UnknownKind | Raced) or self._is_databases(error):
                    raise
                # What is no answer to the caller may have spoilt the transaction.
                if transaction.changed or not isinstance(error, TowlineError):
                    raise PlayAlone from error
                transaction.undo()
                submitted.fail(error)
            else:
                submitted.succeed(result, transaction.effects)
                tally.add(transaction.tally)
        if any(any(changes) for changes in tally.changes.values()):
            await session.count(tally)

    async def _play_joined(
        self,
        session: Session,
        hot: Hot,
        batch: Sequence[SubmittedUntil],
        played: list[SharedTransaction],
        tally: Tally,
    ) -> Container[int]:
        """Returns the places of those that have their results."""
        transaction = SharedTransaction(session, self._names, self._memory, self._look_again)
        played.append(transaction)
        joined = Joined(hot, self._memory.only_lines)
        requests = [submitted.request for submitted in batch]
        pushes = time.monotonic() >= self._careful_until
        try:
            results = await joined.play(transaction, requests, pushes=pushes)
        except Exception as error:
            for submitted in batch:
                submitted.request = None
            race = self._database.trouble(error) is Trouble.RACE
            if isinstance(error, UnknownKind) or (self._is_databases(error) and not race):
                raise
            # Perhaps one of them is at fault: their operations find out which.
            self._careful_until = time.monotonic() + CAREFUL
            raise NotSimple from error
        effects = transaction.effects
        for place, result in results.items():
            batch[place].succeed(result, effects)
            # Told of once.
            effects = Effects()
        tally.add(transaction.tally)
        return results

    async def _commit(self, session: Session) -> None:
        """Raises what the database says only if nothing was committed."""
        try:
            await session.commit()
        except Exception as error:
            if self._database.trouble(error) is not Trouble.LOST or session.ticket is None:
                raise
            if not await self._stands(session.ticket):
                raise

    async def _stands(self, ticket: str) -> bool:
        """Whether the transaction was committed, asked over a new connection.

        Raises StoreUnavailable if that cannot be found out.
        """
        await self._link.drop()
        deadline = time.monotonic() + self._patience
        while True:
            session = await self._link.session(deadline)
            try:
                outcome = await session.outcome(ticket)
            except Exception as error:
                if self._database.trouble(error) is not Trouble.LOST:
                    raise
                await self._link.drop()
                outcome = Outcome.UNDECIDED
            if outcome in (Outcome.COMMITTED, Outcome.ABORTED):
                return outcome is Outcome.COMMITTED
            if outcome is Outcome.UNKNOWN or time.monotonic() > deadline:
                raise StoreUnavailable(
                    "the connection to the store broke while it committed, and what became of "
                    "that cannot be told"
                )
            await asyncio.sleep(_ASK_AGAIN)

    async def _undo(
        self, session: Session, played: Sequence[SharedTransaction], error: Exception
    ) -> None:
        """Raises what the error means for the batch, if that is not the error itself."""
        self._names.drop()
        trouble = self._database.trouble(error)
        if trouble is Trouble.LOST or session.closed:
            await self._link.drop()
        else:
            await self._roll_back(session)
        # Not before: until then claims pass over what is locked, and take it for claimed.
        for transaction in played:
            transaction.undo()
        if isinstance(error, UnknownKind):
            await self._learn_names(error)
        if trouble is not None or isinstance(error, Raced | NotSimple):
            raise PlayAgain(error, at_once=isinstance(error, NotSimple)) from error
        meaning = self._database.translated(error)
        if meaning is not error:
            raise meaning from error

    async def _roll_back(self, session: Session) -> None:
        try:
            await session.rollback()
        except Exception:  # the error that led here says more, and a new connection holds nothing
            await self._link.drop()

    async def _learn_names(self, error: UnknownKind) -> None:
        session = await self._link.session(time.monotonic() + self._patience)
        try:
            await self._names.load(session)
        except Exception as failure:
            raise self._database.translated(failure) from failure
        raise PlayAgain(error) from error

    def _is_databases(self, error: Exception) -> bool:
        if self._database.trouble(error) is not None:
            return True
        return self._database.translated(error) is not error
