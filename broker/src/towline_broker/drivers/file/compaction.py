"""Giving up the oldest segment: what still lives in it is written again at the head.

There is no snapshot, and nothing stops for one. Of every segment is kept in memory which jobs,
memories, keys, tallies and queues stand in it as a whole. Once the journal is much larger than what
lives in it, or the disk is full, those of the oldest segment that still live are carried forward in
small slices between the calls, and then its file is given up. This needs no more room than one
segment, however large the store is.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Generic, TypeVar

from towline_broker.domain.errors import StoreFailed
from towline_broker.domain.events import event
from towline_broker.domain.time import Micros
from towline_broker.drivers.file.journal import Journal, Use
from towline_broker.drivers.file.recording import Recorder
from towline_broker.drivers.file.rows import Record, encode
from towline_broker.drivers.memory.changes import Changes
from towline_broker.drivers.memory.records import JOB_OVERHEAD
from towline_broker.drivers.memory.runs import Run, runs_of
from towline_broker.drivers.memory.settled import MEMORY_OVERHEAD
from towline_broker.drivers.memory.state import State

log = logging.getLogger("towline.broker")

#: Bounds of a slice: it holds the event loop for less than a millisecond.
SLICE_ITEMS = 200
SLICE_BYTES = 256 * 1024
#: Living or not.
SLICE_LOOKED = 5_000

#: A journal of so many segments is never compacted for its size alone.
LEAST_SEGMENTS = 4
#: About what a job takes in the journal beside its envelope, and a memory beside a result.
JOB_BYTES = 80
MEMORY_BYTES = 75


T = TypeVar("T")


class Pile(Generic[T]):
    """A list that may be long: what lies deep in it the garbage collector does not look at, for it
    stops tracking tuples of plain values."""

    __slots__ = ("_deep", "_top")
    DEPTH = 10_000

    def __init__(self) -> None:
        self._deep: list[tuple[T, ...]] = []
        self._top: list[T] = []

    def add(self, items: Iterable[T]) -> None:
        self._top.extend(items)
        if len(self._top) > self.DEPTH:
            self._deep.append(tuple(self._top))
            self._top = []

    def __iter__(self) -> Iterator[T]:
        yield from chain.from_iterable(self._deep)
        yield from self._top


@dataclass(slots=True)
class Inventory:
    """What stands in one segment as a whole; it may be gone or stand elsewhere by now."""

    jobs: Pile[str] = field(default_factory=Pile)
    memories: Pile[Run] = field(default_factory=Pile)
    keys: dict[tuple[str, str], None] = field(default_factory=dict)
    tallies: dict[tuple[str, str], None] = field(default_factory=dict)
    queues: dict[str, None] = field(default_factory=dict)

    def add_changes(self, changes: Changes, record: Record) -> None:
        """Those, and the record that was made of them."""
        self._add_jobs(record)
        self.memories.add(changes.remembered)
        self.keys |= changes.keys
        self.tallies |= dict.fromkeys((tally.queue, tally.type) for tally in changes.tallies)
        self.queues |= changes.queues

    def add_record(self, record: Record) -> None:
        names = record.names
        self._add_jobs(record)
        self.memories.add(runs_of((row.until, row.number, row.id, None) for row in record.ended))
        self.memories.add(
            Run(row.until, row.number, tuple(row.ids)) for row in record.ended_together
        )
        self.memories.add(
            runs_of(
                (row.until, row.number, "", (names[row.queue], row.job_id, names[row.grant]))
                for row in record.settled
            )
        )
        for key in record.keys:
            self.keys[names[key.queue], key.key] = None
        for tally in record.tallies:
            self.tallies[names[tally.queue], names[tally.type]] = None
        for queue in record.queues:
            self.queues[names[queue.name]] = None

    def _add_jobs(self, record: Record) -> None:
        self.jobs.add([job.id for job in record.jobs])
        for pushed in record.pushed:
            self.jobs.add(pushed.ids)


class Compaction:
    """One round gives up one segment. Rounds do not overlap."""

    def __init__(
        self,
        journal: Journal,
        state: State,
        inventories: dict[int, Inventory],
        segment_bytes: int,
        clock: Callable[[], Micros],
    ) -> None:
        self._journal = journal
        self._state = state
        self._inventories = inventories
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._round = asyncio.Lock()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: Segments given up so far.
        self.given_up = 0

    def append(self, record: Record, changes: Changes | None = None) -> None:
        """To the journal, and to the inventory of the segment that it goes to."""
        number = self._journal.append(encode(record))
        inventory = self._inventories.get(number)
        if inventory is None:
            inventory = self._inventories[number] = Inventory()
            self._wake.set()
        if changes is None:
            inventory.add_record(record)
        else:
            inventory.add_changes(changes, record)

    @property
    def live_bytes(self) -> int:
        """About how many bytes the journal would have if it held nothing but what lives."""
        state = self._state
        jobs = state.count * (JOB_OVERHEAD - JOB_BYTES)
        return state.size - jobs - len(state.memory) * (MEMORY_OVERHEAD - MEMORY_BYTES)

    @property
    def wanted(self) -> bool:
        """It would pay, or it would make the room that is missing."""
        sealed = len(self._inventories) - 1
        live, size = self.live_bytes, sealed * self._segment_bytes
        if sealed > LEAST_SEGMENTS and size > 2 * live:
            return True
        lacking = self._journal.reserve - self._journal.room.spares
        if sealed == 0 or lacking < 0:
            return False
        return lacking > 0 or size - live > self._segment_bytes // 2

    @property
    def cycle(self) -> int:
        """After so many rounds, every segment has been given up once."""
        return len(self._inventories)

    def start(self) -> None:
        self._wake.set()
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._journal.health.sound:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._journal.refill()
                await self._gain()
            except StoreFailed:
                return  # whoever calls next hears of it
            except Exception:
                log.exception(
                    "compaction met a defect, and tries again at the next segment",
                    extra=event("compaction_defect"),
                )

    async def _gain(self) -> None:
        """Goes on while it is wanted, but not for ever when the journal is full of what lives."""
        spares, fruitless = self._journal.room.spares, 0
        while self.wanted and fruitless <= self.cycle and await self.round():
            fruitless = 0 if self._journal.room.spares > spares else fruitless + 1
            spares = self._journal.room.spares

    async def round(self) -> bool:
        """Returns whether a segment was given up."""
        async with self._round:
            if not self.wanted:
                return False
            number = min(self._inventories)
            for entries, record in self._slices(self._inventories[number]):
                if not await self._carry(entries, record):
                    return False
            self.append(Record(self._clock(), first_segment=number + 1))
            await self._journal.durable()
            del self._inventories[number]
            await self._journal.retire(number)
            self.given_up += 1
            return True

    async def _carry(self, entries: "Sequence[_Entry]", record: Record) -> bool:
        """Writes a slice as it stands now; returns whether there was room for it."""
        if not entries:
            await asyncio.sleep(0)
            return True
        size = len(encode(record))
        if not self._journal.room.has(size):
            if not await self._journal.admit(size, Use.COMPACTION):
                return False
            # Things may stand differently by now.
            recorder = Recorder(self._state, self._clock())
            for carry, entry in entries:
                carry(recorder, entry)
            record = recorder.finish()
        self.append(record)
        await self._journal.durable()
        return True

    def _slices(self, inventory: Inventory) -> "Iterator[tuple[list[_Entry], Record]]":
        """What lives of it, in parts of bounded size, with the record that tells of each."""
        most = min(SLICE_BYTES, self._segment_bytes // 8)
        recorder = Recorder(self._state, self._clock())
        entries: list[_Entry] = []
        looked = size = 0
        for carry, entry in _entries(inventory):
            looked += 1
            if taken := carry(recorder, entry):
                entries.append((carry, entry))
                size += taken
            if looked >= SLICE_LOOKED or len(entries) >= SLICE_ITEMS or size >= most:
                yield entries, recorder.finish()
                recorder = Recorder(self._state, self._clock())
                entries, looked, size = [], 0, 0
        yield entries, recorder.finish()


#: Something that stands in a segment, and how it is put down. That returns about how many bytes it
#: takes, 0 if it lives no more.
_Entry = tuple[Callable[[Recorder, Any], int], Any]


def _entries(inventory: Inventory) -> Iterator[_Entry]:
    for name in inventory.queues:
        yield Recorder.carry_queue, name
    for tally in inventory.tallies:
        yield Recorder.carry_tally, tally
    for job_id in inventory.jobs:
        yield Recorder.carry_job, job_id
    for key in inventory.keys:
        yield Recorder.carry_key, key
    for run in inventory.memories:
        for memory in run:
            yield Recorder.carry_memory, memory
