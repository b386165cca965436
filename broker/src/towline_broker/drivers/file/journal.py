"""The journal as the event loop sees it: append, then wait until all that was is durable."""

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from towline_broker.domain.errors import NoRoom, StoreFailed, StoreFull
from towline_broker.drivers.disk import free_bytes
from towline_broker.drivers.file import segments
from towline_broker.drivers.file.machine import THIS_MACHINE, Machine
from towline_broker.drivers.file.room import Room, reserve_of
from towline_broker.drivers.file.writer import RECORD_OVERHEAD, ActiveSegment, Rotation, Writer
from towline_broker.drivers.health import Health

#: Callers wait before they change anything while so many bytes are not durable yet.
MOST_BEHIND = 64 * 1024 * 1024

Then = Callable[[], None]


class Use(Enum):
    """What room is asked for. The last spare segment is left to compaction: with it, it can go on,
    and give back more."""

    NEW_JOBS = "new jobs"
    SETTLING = "settling, and all else"
    COMPACTION = "compaction"


class Journal:
    def __init__(
        self,
        directory: Path,
        active: ActiveSegment,
        spares: Sequence[tuple[Path, int]],
        *,
        oldest: int,
        segment_bytes: int,
        min_free_bytes: int,
        free: Callable[[Path], int] = free_bytes,
        machine: Machine = THIS_MACHINE,
    ) -> None:
        self.health = Health()
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._min_free_bytes = min_free_bytes
        self._free = free
        self._machine = machine
        #: The segment that records go to.
        self.number = active.header.number
        self.oldest = oldest
        self.room = Room(active.header.size - active.offset, deque(spares))
        #: For so many names the directory has room.
        self._wide = 0
        self._next_spare = 1 + max(segments.numbers_in(directory, "spare", machine), default=0)
        self._appended = 0
        self._durable = 0
        #: Sizes of the records that are not durable yet.
        self._sizes: deque[int] = deque()
        self._behind = 0
        #: What waits until so many records are durable.
        self._waiting: deque[tuple[int, Then | None, asyncio.Future[None] | None]] = deque()
        self._turns: deque[asyncio.Future[None]] = deque()
        self._refilling: asyncio.Task[None] | None = None
        self._writer = Writer(directory, active, self.health, machine, self._written)

    @property
    def reserve(self) -> int:
        """Spare segments that new jobs may not touch."""
        return reserve_of(self.number - self.oldest + 1)

    # --- appending ----------------------------------------------------------------------------

    async def admit(self, size: int, use: Use) -> bool:
        """Whether a record of at most so many bytes may be appended. The caller then does so before
        it awaits anything. May wait for those before to be written. Raises StoreFailed."""
        self.health.check()
        if self._behind > MOST_BEHIND or self._turns:
            await self._turn()
        if self.room.has(size, self._kept(use)):
            return True
        await self._make_room(size, keep_free=use is Use.NEW_JOBS)
        return self.room.has(size, self._kept(use))

    def _kept(self, use: Use) -> int:
        """So many spare segments are not for it."""
        if use is Use.NEW_JOBS:
            return self.reserve
        return 1 if use is Use.SETTLING else 0

    def append(self, record: bytes) -> int:
        """Returns the number of the segment that it goes to. Raises StoreFailed."""
        if not self.room.has(len(record)):
            self._make_room_at_once(len(record))
        spare = self.room.take(len(record))
        if spare is not None:
            self.number += 1
            self._writer.put(Rotation(spare))
            self._refill_soon()
        self._writer.put(record)
        self._appended += 1
        self._sizes.append(len(record))
        self._behind += len(record)
        return self.number

    def _make_room_at_once(self, size: int) -> None:
        """The record is larger than its caller thought, and what it tells has happened."""
        whole = max(size + RECORD_OVERHEAD + segments.HEADER_SIZE, self._segment_bytes)
        path = self._new_spare()
        try:
            segments.make_spare(self._machine, path, whole)
        except OSError as error:
            self.health.note(StoreFailed(f"the journal has no room for a record: {error}"))
            self._let_all_go()
            self.health.check()
        self.room.add_spare(path, whole, first=True)

    def when_durable(self, then: Then) -> None:
        """Calls it once all that was appended so far is durable; never if the store fails."""
        self._waiting.append((self._appended, then, None))

    async def durable(self) -> None:
        """Returns once all that was appended so far is. Raises StoreFailed if it cannot be."""
        self.health.check()
        if self._durable < self._appended:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((self._appended, None, future))
            await future
            self.health.check()

    def _written(self, count: int) -> None:
        if not self.health.sound:
            self._let_all_go()
            return
        self._durable += count
        for _ in range(count):
            self._behind -= self._sizes.popleft()
        while self._waiting and self._waiting[0][0] <= self._durable:
            _, then, future = self._waiting.popleft()
            if then is not None:
                then()
            if future is not None and not future.done():
                future.set_result(None)
        self._next_turn()

    def _let_all_go(self) -> None:
        """They look at the store's health next."""
        for _, _, future in self._waiting:
            if future is not None and not future.done():
                future.set_result(None)
        self._waiting.clear()
        while self._turns:
            _release(self._turns.popleft())

    # --- one after the other ------------------------------------------------------------------

    async def _turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._next_turn()  # it may have been this one's already
            raise
        self.health.check()
        # Behind this caller, which appends at once, the next one may come.
        asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        while self._turns and self._behind <= MOST_BEHIND:
            turn = self._turns.popleft()
            if not turn.done():
                _release(turn)
                return

    # --- room ---------------------------------------------------------------------------------

    async def _make_room(self, size: int, *, keep_free: bool) -> None:
        need = size + RECORD_OVERHEAD + segments.HEADER_SIZE
        if need > self._segment_bytes:
            await self._make_spare(need, keep_free=keep_free, first=True)
        else:
            await self.refill(keep_free=keep_free)

    def refuse(self, use: Use) -> NoReturn:
        """Raises what tells that there is no room, to be asked for when there is none."""
        if use is not Use.NEW_JOBS:
            raise NoRoom(
                "the disk is full, and so is what the store had reserved: nothing was changed; "
                "make room and try again"
            )
        free = self._free(self._directory)
        raise StoreFull(
            "disk",
            f"the disk of the store has {free} bytes free; the journal grows by segments of "
            f"{self._segment_bytes} bytes, and new jobs may leave no less than "
            f"{self._min_free_bytes} (min_free_bytes); running jobs can still be settled",
        )

    async def refill(self, *, keep_free: bool = True) -> None:
        """Makes spare segments, up to one more than the reserve, if the disk has room for them."""
        while self.room.spares <= self.reserve:
            if not await self._make_spare(self._segment_bytes, keep_free=keep_free):
                return

    def _refill_soon(self) -> None:
        if self._refilling is None or self._refilling.done():
            self._refilling = asyncio.ensure_future(self.refill())

    async def _make_spare(self, size: int, *, keep_free: bool, first: bool = False) -> bool:
        """Returns whether there was room for it."""
        path = self._new_spare()
        least = self._min_free_bytes if keep_free else 0

        def make() -> bool:
            if self._free(self._directory) < size + least:
                return False
            try:
                segments.make_spare(self._machine, path, size)
            except OSError as error:
                # Somebody else was faster, or the broker may use less than the disk has.
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    return False
                raise
            if 2 * len(self._machine.names(self._directory)) > self._wide:
                self._wide = segments.widen(self._machine, self._directory)
            return True

        made: bool = await self._on_disk(make)
        if made:
            self.room.add_spare(path, size, first=first)
        return made

    def _new_spare(self) -> Path:
        path = segments.spare_path(self._directory, self._next_spare)
        self._next_spare += 1
        return path

    async def retire(self, number: int) -> None:
        """Gives up the oldest segment: its file becomes a spare one if such are wanted."""
        path = segments.path_of(self._directory, number)
        spare = self._new_spare()
        wanted = self.room.spares <= self.reserve
        self.oldest = number + 1

        def give_up() -> int:
            size = self._machine.size(path)
            if wanted and size == self._segment_bytes:
                self._machine.rename(path, spare)
            else:
                self._machine.remove(path)
                size = 0
            self._machine.sync_directory(self._directory)
            return size

        size: int = await self._on_disk(give_up)
        if size:
            self.room.add_spare(spare, size)

    async def _on_disk(self, work: Callable[[], Any]) -> Any:
        """On the writer's thread. An error ends the store."""
        self.health.check()
        try:
            return await self._writer.run(work)
        except OSError as error:
            self.health.note(StoreFailed(f"the journal failed: {self._directory}: {error}"))
            self._let_all_go()
            self.health.check()

    async def close(self) -> None:
        if self._refilling is not None:
            await asyncio.wait([self._refilling])
        await self._writer.stop()


def _release(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
