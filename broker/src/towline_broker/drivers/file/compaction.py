"""Giving up the oldest segment: what still lives in it is written again at the head.

There is no snapshot, and nothing stops for one. Of every segment is kept in memory which jobs,
memories, keys, tallies and queues stand in it as a whole. Once the journal is much larger than what
lives in it, or the disk is full, those of the oldest segment that still live are carried forward in
small slices between the calls, and then its file is given up. This needs no more room than one
segment, however large the store is.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from towline_broker.domain.time import Micros
from towline_broker.drivers.file.journal import Journal
from towline_broker.drivers.file.recording import Recorder
from towline_broker.drivers.file.room import RESERVE
from towline_broker.drivers.file.rows import Record, encode
from towline_broker.drivers.memory.changes import Changes, Memory
from towline_broker.drivers.memory.records import JOB_OVERHEAD
from towline_broker.drivers.memory.settled import MEMORY_OVERHEAD
from towline_broker.drivers.memory.state import State

#: Bounds of a slice: it holds the event loop for less than a millisecond.
SLICE_ITEMS = 200
SLICE_BYTES = 256 * 1024

#: A journal of so many segments is never compacted for its size alone.
LEAST_SEGMENTS = 4
#: About what a job takes in the journal beside its envelope, and a memory beside a result.
JOB_BYTES = 130
MEMORY_BYTES = 110


@dataclass(slots=True)
class Inventory:
    """What stands in one segment as a whole; it may be gone or stand elsewhere by now."""

    jobs: list[str] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)
    keys: dict[tuple[str, str], None] = field(default_factory=dict)
    tallies: dict[tuple[str, str], None] = field(default_factory=dict)
    queues: dict[str, None] = field(default_factory=dict)

    def add_changes(self, changes: Changes, record: Record) -> None:
        """Those, and the record that was made of them."""
        self.jobs += [job.id for job in record.jobs]
        self.memories += changes.remembered
        self.keys |= changes.keys
        self.tallies |= dict.fromkeys((tally.queue, tally.type) for tally in changes.tallies)
        self.queues |= changes.queues

    def add_record(self, record: Record) -> None:
        names = record.names
        self.jobs += [job.id for job in record.jobs]
        for ended in record.ended:
            self.memories.append((ended.until, ended.number, ended.id, None))
        for settled in record.settled:
            lease = (names[settled.queue], settled.job_id, names[settled.grant])
            self.memories.append((settled.until, settled.number, "", lease))
        for key in record.keys:
            self.keys[names[key.queue], key.key] = None
        for tally in record.tallies:
            self.tallies[names[tally.queue], names[tally.type]] = None
        for queue in record.queues:
            self.queues[names[queue.name]] = None


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
        self._stopping = False
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
        jobs = len(state.jobs) * (JOB_OVERHEAD - JOB_BYTES)
        return state.size - jobs - len(state.memory) * (MEMORY_OVERHEAD - MEMORY_BYTES)

    @property
    def wanted(self) -> bool:
        """It would pay, or it would make the room that is missing."""
        sealed = len(self._inventories) - 1
        live, size = self.live_bytes, sealed * self._segment_bytes
        if sealed > LEAST_SEGMENTS and size > 2 * live:
            return True
        scarce = self._journal.room.spares <= RESERVE
        return sealed > 0 and scarce and size - live > self._segment_bytes // 2

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._journal.health.sound:
            await self._wake.wait()
            self._wake.clear()
            await self._journal.refill()
            while self.wanted and await self.round():
                pass

    async def round(self) -> bool:
        """Returns whether a segment was given up."""
        async with self._round:
            if not self.wanted:
                return False
            number = min(self._inventories)
            for record in self._slices(self._inventories[number]):
                if not self._journal.room.has(len(encode(record))):
                    return False
                self.append(record)
                await self._journal.durable()
            self.append(Record(self._clock(), first_segment=number + 1))
            await self._journal.durable()
            del self._inventories[number]
            await self._journal.retire(number)
            self.given_up += 1
            return True

    def _slices(self, inventory: Inventory) -> Iterator[Record]:
        """What of it still lives, as it stands when its slice is asked for. Each is bounded."""
        recorder = Recorder(self._state, self._clock())
        size = items = 0
        for add, entry in _entries(inventory):
            size += add(recorder, entry)
            items += 1
            if items >= SLICE_ITEMS or size >= SLICE_BYTES:
                yield recorder.finish()
                recorder = Recorder(self._state, self._clock())
                size = items = 0
        yield recorder.finish()


def _entries(inventory: Inventory) -> Iterator[tuple[Callable[[Recorder, Any], int], Any]]:
    """Each with how it is put down; that returns about how many bytes it takes."""
    for name in inventory.queues:
        yield Recorder.carry_queue, name
    for tally in inventory.tallies:
        yield Recorder.carry_tally, tally
    for job_id in inventory.jobs:
        yield Recorder.carry_job, job_id
    for key in inventory.keys:
        yield Recorder.carry_key, key
    for memory in inventory.memories:
        yield Recorder.carry_memory, memory
