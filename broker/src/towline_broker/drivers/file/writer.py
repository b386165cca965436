"""The one thread that writes to the journal.

It takes the records that have gathered, writes them as one frame, syncs, and tells the event loop
how far the journal is durable. A lone record never waits for company; what comes while a frame is
being synced shares the next one. An error of a write or a sync ends the store: what the disk holds
after it is not known, and trying again would prove nothing.
"""

import asyncio
import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from towline_broker.domain.errors import StoreFailed
from towline_broker.drivers.file import segments
from towline_broker.drivers.file.machine import Machine, Waiting, write_whole
from towline_broker.drivers.file.mark import Mark
from towline_broker.drivers.file.rows import encode_frame
from towline_broker.drivers.file.segments import FRAME_SIZE, Header
from towline_broker.drivers.health import Health

#: A frame is closed once its records come to so many bytes.
MOST_BYTES = 8 * 1024 * 1024
#: What a record takes beside its own bytes, at most.
RECORD_OVERHEAD = FRAME_SIZE + 5


def synced_write(machine: Machine, file: int, content: bytes, offset: int) -> None:
    """Returns when the bytes are on the disk. (Tests put a failing disk in its place.)"""
    write_whole(machine, file, content, offset)
    machine.sync_data(file)


@dataclass(slots=True)
class Rotation:
    """From here on, records go to this file."""

    spare: Path


@dataclass(slots=True)
class Errand:
    """Something else to do to the files; ``done`` hears of it on the event loop."""

    work: Callable[[], Any]
    done: "asyncio.Future[Any]"


@dataclass(slots=True)
class ActiveSegment:
    file: int
    header: Header
    #: Where the next frame goes.
    offset: int
    #: Of the next frame.
    sequence: int
    #: What checksums begin from.
    seed: int = field(init=False)

    def __post_init__(self) -> None:
        self.seed = self.header.seed


class Writer:
    """``put`` and ``stop`` belong to the event loop on which it was made."""

    def __init__(
        self,
        directory: Path,
        active: ActiveSegment,
        health: Health,
        machine: Machine,
        written: Callable[[int], None],
    ) -> None:
        """``written`` is called on the loop with how many more records are durable, or 0 when the
        store has failed."""
        self._directory = directory
        self._active = active
        self._health = health
        self._machine = machine
        self._written = written
        self._loop = asyncio.get_running_loop()
        # All that was found had been synced again when the store was opened.
        self._mark = Mark(machine, directory)
        self._mark.put(active.sequence - 1)
        self._waiting: Waiting[bytes | Rotation | Errand | None] = machine.waiting()
        #: Frames written so far.
        self.frames = 0
        self._join = machine.start(self._work)

    def put(self, item: bytes | Rotation) -> None:
        """A record, or where the next ones go."""
        self._waiting.put(item)

    async def run(self, work: Callable[[], Any]) -> Any:
        """On the thread, behind everything that was put before. Raises what ``work`` raises."""
        done: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.put(Errand(work, done))
        return await done

    async def stop(self) -> None:
        """Returns when everything that was put before is written."""
        self._waiting.put(None)
        await asyncio.to_thread(self._join)
        self._machine.close(self._active.file)
        self._mark.close()

    # --- on the thread ---

    def _work(self) -> None:
        item = self._waiting.get()
        while item is not None:
            if isinstance(item, bytes):
                item = self._write_from(item)
            else:
                self._do(item)
                item = self._waiting.get()

    def _write_from(self, first: bytes) -> bytes | Rotation | Errand | None:
        """Writes a frame of the records that are waiting; returns the item behind them."""
        records, size = [first], len(first)
        item: bytes | Rotation | Errand | None = None
        while size < MOST_BYTES:
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                self._write(records)
                return self._waiting.get()
            if not isinstance(item, bytes):
                self._write(records)
                return item
            records.append(item)
            size += len(item)
        self._write(records)
        return self._waiting.get()

    def _write(self, records: list[bytes]) -> None:
        active = self._active
        durable = 0
        if self._health.sound:
            try:
                body = encode_frame(records)
                head = segments.frame_header(active.seed, active.sequence, body)
                synced_write(self._machine, active.file, head + body, active.offset)
                self._mark.put(active.sequence)
                active.offset += len(head) + len(body)
                active.sequence += 1
                self.frames += 1
                durable = len(records)
            except Exception as error:
                self._fail(error)
        self._loop.call_soon_threadsafe(self._written, durable)

    def _do(self, item: Rotation | Errand) -> None:
        if isinstance(item, Errand):
            try:
                result, error = item.work(), None
            except Exception as raised:
                result, error = None, raised
            self._loop.call_soon_threadsafe(_answer, item.done, result, error)
            return
        active = self._active
        if not self._health.sound:
            return
        try:
            file, header = segments.begin(
                self._machine,
                item.spare,
                self._directory,
                active.header.number + 1,
                active.sequence,
                active.header.store,
            )
        except Exception as error:
            self._fail(error)
            return
        self._machine.close(active.file)
        self._active = ActiveSegment(file, header, segments.HEADER_SIZE, active.sequence)

    def _fail(self, error: Exception) -> None:
        place = segments.path_of(self._directory, self._active.header.number)
        self._health.note(StoreFailed(f"the journal failed: {place}: {error}"))


def _answer(done: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)
