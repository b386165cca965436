"""One transaction with what waits together: played, committed, and its outcome found out if it was
lost."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from towline_broker.domain.errors import NoRoom, StoreFull, StoreUnavailable, TowlineError
from towline_broker.drivers.sql.names import Names, UnknownKind
from towline_broker.drivers.sql.shared.links import Link
from towline_broker.drivers.sql.shared.memory import Memory
from towline_broker.drivers.sql.shared.session import Database, Outcome, Session, Trouble
from towline_broker.drivers.sql.shared.transaction import LookAgain, SharedTransaction
from towline_broker.drivers.sql.submitted import Submitted
from towline_broker.drivers.sql.tally import Tally
from towline_broker.drivers.sql.transaction import Operation, Raced

#: Seconds between two questions for the outcome of a transaction.
_ASK_AGAIN = 0.1


class PlayAgain(Exception):
    """Nothing of the batch stands, and playing it again may well succeed."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class PlayAlone(Exception):
    """Nothing of the batch stands: one of it failed and would have taken the others along."""


class SubmittedUntil(Submitted):
    """No attempt begins after the deadline, which is one of ``time.monotonic``."""

    __slots__ = ("deadline",)

    def __init__(
        self,
        operation: Operation[Any],
        answer: asyncio.Future[Any],
        deadline: float,
        items: int,
        room: int,
    ) -> None:
        super().__init__(operation, answer, items, room)
        self.deadline = deadline

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

    async def commit(self, batch: Sequence[SubmittedUntil]) -> None:
        """Gives each its result or its error.

        Raises PlayAgain, PlayAlone, and what else concerns them all: then none has one.
        """
        session = await self._link.session(min(submitted.deadline for submitted in batch))
        played: list[SharedTransaction] = []
        try:
            await self._play(session, batch, played)
            await self._commit(session)
        except Exception as error:
            await self._undo(session, played, error)
            raise
        finally:
            for transaction in played:
                transaction.over()
        self._names.keep()

    async def _play(
        self, session: Session, batch: Sequence[SubmittedUntil], played: list[SharedTransaction]
    ) -> None:
        await session.begin()
        tally = Tally()
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
        if trouble is not None or isinstance(error, Raced):
            raise PlayAgain(error) from error
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
