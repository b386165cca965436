"""A store that is open: the engine, its journal and its compaction."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from towline_broker.domain.time import Micros
from towline_broker.drivers.file.compaction import Compaction
from towline_broker.drivers.file.journal import Journal, Use
from towline_broker.drivers.file.machine import THIS_MACHINE, Machine
from towline_broker.drivers.file.recording import Recorder
from towline_broker.drivers.file.rows import Record
from towline_broker.drivers.file.store import OpenStore
from towline_broker.drivers.file.url import FileUrl
from towline_broker.drivers.interface import Listener, tell
from towline_broker.drivers.memory.engine import Engine
from towline_broker.drivers.memory.events import Events

T = TypeVar("T")


class LiveStore:
    """Belongs to the event loop on which it was made."""

    def __init__(
        self,
        store: OpenStore,
        url: FileUrl,
        directory: Path,
        listener: Listener,
        free: Callable[[Path], int],
        machine: Machine = THIS_MACHINE,
    ) -> None:
        self._lock = store.lock
        self._listener = listener
        self._clock = store.clock
        self.engine = Engine(max_bytes=url.max_bytes, state=store.state)
        self.journal = Journal(
            directory,
            store.active,
            store.spares,
            oldest=min(store.inventories),
            segment_bytes=url.segment_bytes,
            min_free_bytes=url.min_free_bytes,
            free=free,
            machine=machine,
        )
        self.compaction = Compaction(
            self.journal, store.state, store.inventories, url.segment_bytes, lambda: self._clock
        )
        self.engine.take_changes()
        self._tell(self.engine.take_events())
        self.compaction.start()

    async def change(self, call: Callable[[Engine], T], now: Micros, size: int, use: Use) -> T:
        """``size``: about how much will be recorded of it, at most. Returns when it is durable."""
        await self._admit(size, use)
        result = call(self.engine)
        self._clock = max(self._clock, now)
        self._record()
        await self.journal.durable()
        return result

    async def look(self, call: Callable[[Engine], T]) -> T:
        """Returns when all is durable that it may have seen."""
        self.journal.health.check()
        result = call(self.engine)
        await self.journal.durable()
        return result

    async def look_in_pieces(self, call: Callable[[Engine], Awaitable[T]]) -> T:
        """The same, while other calls come in between."""
        self.journal.health.check()
        result = await call(self.engine)
        await self.journal.durable()
        return result

    async def close(self) -> None:
        """Returns when what was under way is durable."""
        await self.compaction.stop()
        if self.journal.health.sound and self.journal.room.has(0):
            # With a frame behind it, damage to the last change is told from a torn tail.
            self.compaction.append(Record(self._clock))
        await self.journal.close()
        self._lock.release()

    async def _admit(self, size: int, use: Use) -> None:
        if await self.journal.admit(size, use):
            return
        # Settled jobs leave room in the journal, which compaction gets back.
        rounds = self.compaction.cycle
        while rounds and self.compaction.wanted and await self.compaction.round():
            if await self.journal.admit(size, use):
                return
            rounds -= 1
        self.journal.refuse(use)

    def _record(self) -> None:
        """What has changed goes to the journal; what came of it is told when that is durable. But a
        claim may come before: it is answered when all is durable that it has seen, and its record
        may share a frame with that of the push."""
        events = self.engine.take_events()
        changes = self.engine.take_changes()
        if changes:
            recorder = Recorder(self.engine.state, self._clock)
            recorder.add_changes(changes)
            self.compaction.append(recorder.finish(), changes)
            for queue, count in events.ready.items():
                self._listener.jobs_coming(queue, count)
        if events.ended or events.ready:
            self.journal.when_durable(lambda: self._tell(events))

    def _tell(self, events: Events) -> None:
        tell(self._listener, events.ready, events.ended)
