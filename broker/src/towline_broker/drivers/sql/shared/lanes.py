"""The lanes: connections that change the store, each with a task.

A lane takes the operations that are waiting and plays them together in one transaction. It does not
wait for company, and what comes up while it is at its statements waits for the next lane's turn
(``turns.py``). Together they are played as if nothing could fail; if something does, nothing of it
stands, and each is played again in a transaction of its own.
"""

import asyncio
import logging
import random
import time
from collections.abc import Sequence

from towline_broker.domain.errors import StoreFull, StoreUnavailable
from towline_broker.domain.events import event
from towline_broker.drivers.interface import Listener
from towline_broker.drivers.sql.backlog import Backlog
from towline_broker.drivers.sql.shared.batches import Batches, PlayAgain, PlayAlone, SubmittedUntil
from towline_broker.drivers.sql.shared.joined import Request
from towline_broker.drivers.sql.shared.links import Link
from towline_broker.drivers.sql.shared.memory import Memory
from towline_broker.drivers.sql.shared.peers import Peers
from towline_broker.drivers.sql.shared.session import Database
from towline_broker.drivers.sql.shared.transaction import LookAgain
from towline_broker.drivers.sql.shared.turns import Turn, Turns
from towline_broker.drivers.sql.submitted import deliver
from towline_broker.drivers.sql.transaction import Operation, T

log = logging.getLogger("towline.broker")

#: Bounds of one transaction, so that callers do not wait long for each other.
MOST_OPERATIONS = 64
MOST_ITEMS = 2_000
MOST_ROOM = 16 * 1024 * 1024
#: How often one operation is played because of others before its caller hears of it.
MOST_TRIES = 20
#: Seconds between two tries, at most: the first number times the number of tries.
_JITTER, _MOST_JITTER = 0.01, 0.2


class Lanes:
    def __init__(
        self,
        database: Database,
        count: int,
        memory: Memory,
        look_again: LookAgain,
        listener: Listener,
        peers: Peers,
        patience: float,
    ) -> None:
        """``patience``: seconds for which an operation is tried in spite of lost connections."""
        self._waiting: asyncio.Queue[SubmittedUntil | None] = asyncio.Queue()
        self._backlog = Backlog()
        self._patience = patience
        self._links = [Link(database, changes=True) for _ in range(count)]
        turns = Turns()
        self._lanes = [
            _Lane(
                Batches(database, link, memory, look_again, patience),
                *(self._waiting, turns, listener, peers),
            )
            for link in self._links
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Raises StoreRefused and StoreUnavailable."""
        for link in self._links:
            await link.open()
        self._tasks = [asyncio.create_task(lane.work()) for lane in self._lanes]

    async def submit(
        self, operation: Operation[T], *, items: int, room: int, request: Request | None = None
    ) -> T:
        """``request``: what the operation does, if it may be joined with others.

        Raises StoreFull (only if it needs room), StoreError, and what the operation raises."""
        with self._backlog.holding(room):
            answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            deadline = time.monotonic() + self._patience
            self._waiting.put_nowait(
                SubmittedUntil(operation, answer, deadline, items, room, request)
            )
            return await answer

    async def stop(self) -> None:
        """Returns when everything submitted before has been answered."""
        for _ in self._tasks:
            self._waiting.put_nowait(None)
        if self._tasks:
            await asyncio.wait(self._tasks)
        for link in self._links:
            await link.drop()


class _Lane:
    def __init__(
        self,
        batches: Batches,
        waiting: asyncio.Queue[SubmittedUntil | None],
        turns: Turns,
        listener: Listener,
        peers: Peers,
    ) -> None:
        self._batches = batches
        self._waiting = waiting
        self._turns = turns
        self._listener = listener
        self._peers = peers

    async def work(self) -> None:
        while True:
            turn = await self._turns.next()
            batch = await self._gather()
            if not batch:
                turn.ends()
                return
            turn.begins()
            try:
                await self._commit(batch, turn)
            except Exception as error:
                for submitted in batch:
                    submitted.fail(error)
            finally:
                turn.ends()
            deliver(batch, self._listener)
            for submitted in batch:
                if submitted.effects is not None:
                    self._peers.tell(submitted.effects)

    async def _gather(self) -> list[SubmittedUntil]:
        """Waits for an operation and takes those behind it as well; none at the end."""
        first = await self._waiting.get()
        if first is None:
            return []
        batch = [first]
        items, room = first.items, first.room
        while len(batch) < MOST_OPERATIONS and items < MOST_ITEMS and room < MOST_ROOM:
            if self._waiting.empty():
                break
            submitted = self._waiting.get_nowait()
            if submitted is None:
                self._waiting.put_nowait(None)
                break
            batch.append(submitted)
            items += submitted.items
            room += submitted.room
        return batch

    async def _commit(self, batch: Sequence[SubmittedUntil], turn: Turn) -> None:
        if len(batch) == 1:
            await self._commit_alone(batch[0], turn)
            return
        try:
            await self._batches.commit(batch, turn.ends)
        except (PlayAgain, PlayAlone, StoreFull):
            # A full disk refuses what takes room, and only that.
            for submitted in batch:
                if time.monotonic() > submitted.deadline:
                    # Each may take as long as all of them took: nobody waits for that in turn.
                    submitted.fail(StoreUnavailable("the store took too long: nothing was changed"))
                else:
                    await self._commit_alone(submitted, turn)

    async def _commit_alone(self, submitted: SubmittedUntil, turn: Turn) -> None:
        tries = 0
        while True:
            try:
                await self._batches.commit([submitted], turn.ends)
            except PlayAgain as again:
                tries += 1
                if tries == MOST_TRIES or time.monotonic() > submitted.deadline:
                    submitted.fail(_given_up(again))
                    return
                if not again.at_once:
                    pause = min(_JITTER * tries, _MOST_JITTER)
                    await asyncio.sleep(pause * random.random())  # noqa: S311 - no secret
            except PlayAlone as failure:
                cause = failure.__cause__
                submitted.fail(cause if isinstance(cause, Exception) else failure)
                return
            except Exception as error:
                submitted.fail(error)
                return
            else:
                return


def _given_up(again: PlayAgain) -> StoreUnavailable:
    # Not its text, which may quote what a row holds.
    log.warning(
        "a change was given up: %s",
        type(again.cause).__name__,
        extra=event("change_given_up", reason=type(again.cause).__name__),
    )
    return StoreUnavailable(
        "others kept changing the same jobs, or the connection to the store kept breaking: nothing "
        "was changed; try again"
    )
