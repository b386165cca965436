"""The one thread that changes the file.

It takes the operations that are waiting, plays them, and commits them together: calls that arrive
while a commit is being synced share the next one, and a lone call never waits for company. What has
come while they were played goes along: the claim of a worker that a Push has woken, above all.

They are played as if nothing could fail. Should one fail that has changed something, nothing stands
of any, and all are played again, each inside a savepoint of its own. (A savepoint has SQLite keep a
copy of each page before it is changed.)
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from towline_broker.domain.errors import NoRoom, StoreError, StoreFull, StoreUnavailable
from towline_broker.domain.time import Micros
from towline_broker.drivers.health import Health
from towline_broker.drivers.interface import Listener
from towline_broker.drivers.sql.backlog import Backlog
from towline_broker.drivers.sql.names import Names
from towline_broker.drivers.sql.sqlite.connection import SqliteTransaction, driver_connection
from towline_broker.drivers.sql.sqlite.errors import DiskFull, translated
from towline_broker.drivers.sql.sqlite.held import HeldLeases
from towline_broker.drivers.sql.sqlite.mark import Mark
from towline_broker.drivers.sql.sqlite.wal import Checkpoints
from towline_broker.drivers.sql.submitted import Submitted, deliver
from towline_broker.drivers.sql.transaction import Operation, Raced, T, perform, run

#: Bounds of one transaction, so that callers do not wait long for each other.
MOST_OPERATIONS = 256
MOST_ITEMS = 5_000
MOST_ROOM = 64 * 1024 * 1024

#: One broker owns the store, so there is one row of counters for each kind.
SHARD = 0

NONE: Mapping[str, int] = {}

_SAVE_CLOCK = "UPDATE towline_meta SET clock = MAX(clock, ?), sequence = ?"


class SubmittedAt(Submitted):
    __slots__ = ("now",)

    def __init__(
        self,
        operation: Operation[Any],
        answer: asyncio.Future[Any],
        now: Micros,
        items: int,
        room: int,
    ) -> None:
        super().__init__(operation, answer, items, room)
        self.now = now


class _HalfDone(Exception):
    """One of the operations failed and has changed something."""


class Writer:
    """``submit`` and ``stop`` belong to the event loop on which it was made."""

    def __init__(
        self,
        connection: sa.Connection,
        names: Names,
        sequence: int,
        checkpoints: Checkpoints,
        mark: Mark,
        health: Health,
        listener: Listener,
        why_full: Callable[[int], str | None],
    ) -> None:
        """``why_full`` says why so many bytes of new jobs have no room, None if they have."""
        self._connection = connection
        self._sqlite = driver_connection(connection)
        self._names = names
        self._sequence = sequence
        self._checkpoints = checkpoints
        self._mark = mark
        self._health = health
        self._listener = listener
        self._why_full = why_full
        self._loop = asyncio.get_running_loop()
        self._held = HeldLeases()
        self._waiting: queue.SimpleQueue[SubmittedAt | None] = queue.SimpleQueue()
        #: Nothing comes behind what was taken.
        self._ended = False
        self._backlog = Backlog()
        self._stopped = False
        #: Committed so far.
        self.transactions = 0
        self._thread = threading.Thread(
            target=self._work, name="towline-sqlite-writer", daemon=True
        )
        self._thread.start()

    async def submit(
        self,
        operation: Operation[T],
        *,
        now: Micros = 0,
        items: int = 1,
        room: int = 0,
        coming: Mapping[str, int] = NONE,
    ) -> T:
        """``coming``: how many jobs of each queue will become READY by it, as far as is known. The
        listener hears of them at once, for whatever is submitted from then on comes behind it."""
        self._health.check()
        if self._stopped:
            raise StoreUnavailable("the store is closed")
        with self._backlog.holding(room):
            answer: asyncio.Future[T] = self._loop.create_future()
            self._waiting.put(SubmittedAt(operation, answer, now, items, room))
            for name, count in coming.items():
                self._listener.jobs_coming(name, count)
            return await answer

    async def stop(self) -> None:
        """Returns when everything submitted before has been answered."""
        if not self._stopped:
            self._stopped = True
            self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    # --- on the thread ---

    def _work(self) -> None:
        while not self._ended:
            batch: list[SubmittedAt] = []
            self._gather(batch)
            if batch:
                self._commit_together(batch)
                self._loop.call_soon_threadsafe(deliver, batch, self._listener)
                self._checkpoint()

    def _gather(self, batch: list[SubmittedAt]) -> None:
        """Adds what has come; waits for the first operation of a batch."""
        waiting = self._waiting
        if batch:
            if waiting.empty():
                return
            items = sum([submitted.items for submitted in batch])
            room = sum([submitted.room for submitted in batch])
        else:
            items = room = 0
        while len(batch) < MOST_OPERATIONS and items < MOST_ITEMS and room < MOST_ROOM:
            try:
                submitted = waiting.get(block=not batch)
            except queue.Empty:
                return
            if submitted is None:
                self._ended = True
                return
            batch.append(submitted)
            items += submitted.items
            room += submitted.room

    def _commit_together(self, batch: list[SubmittedAt]) -> None:
        """Gives each its result or its error, and those that have come meanwhile, which it adds."""
        try:
            self._health.check()
            try:
                self._commit(batch)
            except DiskFull:
                # What has been played is void, but without the pushes there may be room enough.
                self._settle_on_full_disk(batch)
        except Exception as error:
            self._health.note(error)
            for submitted in batch:
                submitted.fail(_without_disk_full(error))

    def _settle_on_full_disk(self, batch: list[SubmittedAt]) -> None:
        full = "the disk is full"
        try:
            self._commit(batch, full)
        except DiskFull:
            try:
                self._checkpoints.make_room()
            except sqlite3.Error as error:
                raise translated(error) from error
            self._commit(batch, full)

    def _commit(self, batch: list[SubmittedAt], full: str | None = None) -> None:
        """``full``: why there is no room for new jobs, if that is known."""
        try:
            self._play_and_commit(batch, full, self._play)
        except _HalfDone:
            self._play_and_commit(batch, full, self._play_apart)

    def _play_and_commit(
        self,
        batch: list[SubmittedAt],
        full: str | None,
        play: Callable[[SubmittedAt], None],
    ) -> None:
        sqlite = self._sqlite
        try:
            self._sqlite.execute("BEGIN IMMEDIATE")
            changes = sqlite.total_changes
            self._play_all(batch, full, play)
            played = len(batch)
            if not self._ended:
                self._gather(batch)
            if played < len(batch):
                self._play_all(batch[played:], full, play)
            changed = sqlite.total_changes != changes
            if changed:
                self._sequence += 1
                clock = max(submitted.now for submitted in batch)
                self._sqlite.execute(_SAVE_CLOCK, (clock, self._sequence))
            self._sqlite.execute("COMMIT")
        except Exception as error:
            self._names.drop()
            self._held.clear()
            if sqlite.in_transaction:
                self._sqlite.execute("ROLLBACK")
            raise translated(error) from error
        if changed:
            self._mark.put(self._sequence, self._checkpoints.log())
        self._names.keep()
        self.transactions += 1

    def _play_all(
        self,
        some: Sequence[SubmittedAt],
        full: str | None,
        play: Callable[[SubmittedAt], None],
    ) -> None:
        room = sum([submitted.room for submitted in some])
        if room and full is None:
            full = self._why_full(room)
        for submitted in some:
            if full is not None and submitted.room:
                submitted.fail(StoreFull("disk", full))
            else:
                play(submitted)

    def _play(self, submitted: SubmittedAt) -> None:
        """Raises _HalfDone if the operation fails and has changed something; and what concerns the
        whole transaction: StoreError, DiskFull."""
        changes, made = self._sqlite.total_changes, self._names.mark()
        try:
            self._perform(submitted)
        except Exception as error:
            if isinstance(translated(error), StoreError | DiskFull):
                raise
            if self._sqlite.total_changes != changes or isinstance(error, Raced):
                raise _HalfDone from error
            self._names.drop(made)
            submitted.fail(error)

    def _play_apart(self, submitted: SubmittedAt) -> None:
        """If it fails, nothing of it stays and the others are not concerned.

        Raises what concerns the whole transaction: StoreError, DiskFull.
        """
        made = self._names.mark()
        self._sqlite.execute("SAVEPOINT operation")
        try:
            self._perform(submitted)
        except Exception as error:
            if isinstance(translated(error), StoreError | DiskFull):
                raise
            self._sqlite.execute("ROLLBACK TO operation")
            self._names.drop(made)
            self._held.clear()
            submitted.fail(error)
        self._sqlite.execute("RELEASE operation")

    def _perform(self, submitted: SubmittedAt) -> None:
        transaction = SqliteTransaction(self._connection, self._names, self._take, self._held)
        result = run(perform(transaction, submitted.operation, SHARD))
        submitted.succeed(result, transaction.effects)

    def _take(self, count: int) -> int:
        first = self._sequence + 1
        self._sequence += count
        return first

    def _checkpoint(self) -> None:
        """A failing one ends the store; nobody waits for it, so the next call hears of it."""
        try:
            self._checkpoints.make_if_due()
        except Exception as error:
            self._health.note(translated(error))


def _without_disk_full(error: Exception) -> Exception:
    """Only Push has an error of its own for a full disk."""
    if isinstance(error, DiskFull):
        return NoRoom("the disk is full: nothing was changed; make room and try again")
    return error
