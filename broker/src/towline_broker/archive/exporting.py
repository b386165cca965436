"""From a store to the lines of an export.

Jobs are asked for page by page, in whatever order the store has them at hand, so that one that
changes meanwhile is met once (:meth:`TransferStore.copies`); then they are sorted.
"""

import hashlib
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from towline_broker.archive import lines
from towline_broker.archive.jobs import line_of
from towline_broker.archive.sorting import Entry, Sorter
from towline_broker.archive.stores import OpenStore
from towline_broker.domain.errors import NotSupported
from towline_broker.domain.jobs import JobState
from towline_broker.domain.names import fits
from towline_broker.drivers.interface import Copy, Driver, Feature, QueueState

#: Jobs of a page, and the bytes of their envelopes that are aimed at.
MOST_JOBS = 1_000
PAGE_BYTES = 8 * 1024 * 1024

_KEY = struct.Struct(">BQQQ")
#: Brings what may be negative to where bytes compare as numbers do.
_ZERO = 1 << 63


@dataclass(slots=True)
class Exported:
    queues: int = 0
    jobs: int = 0
    states: Counter[JobState] = field(default_factory=Counter)


def wanted(queue: str, patterns: Sequence[str]) -> bool:
    """By its name, or a pattern in which * stands for any text; none: every queue."""
    return not patterns or any(fits(pattern, queue) for pattern in patterns)


async def export(
    store: OpenStore,
    out: BinaryIO,
    patterns: Sequence[str],
    folder: Path | None,
    tell: Callable[[int], None],
) -> Exported:
    """Writes the export of a store.

    ``folder``: where temporary files go. ``tell`` hears now and then how many jobs were read.
    Raises NotSupported, StoreError, OSError.
    """
    driver = store.driver
    if Feature.TRANSFER in driver.capabilities.missing:
        raise NotSupported(driver.capabilities.name, "copying its jobs")
    done = Exported()
    met: dict[str, set[str]] = {}
    with Sorter(folder) as sorter:
        async for copy in _copies(driver):
            if wanted(copy.transfer.record.queue, patterns):
                met.setdefault(copy.transfer.new.queue, set()).add(copy.transfer.new.type)
                done.jobs += 1
                done.states[copy.transfer.record.state] += 1
                sorter.add(_key(copy), lines.encode(line_of(copy.transfer)))
                tell(done.jobs)
        queues = [one for one in await _queues(driver, met) if wanted(one.name, patterns)]
        done.queues = len(queues)
        writer = _Writer(out)
        name = driver.capabilities.name
        made_by, now = version("towline-broker"), store.clock.now()
        writer.put(lines.encode(lines.Header(lines.VERSION, made_by, now, name, list(patterns))))
        for line in _in_order(queues, sorter):
            writer.put(line)
        writer.end(done.jobs)
    return done


async def _copies(driver: Driver) -> AsyncIterator[Copy]:
    limit, cursor = 100, None
    while True:
        page = await driver.copies(limit, cursor)
        for copy in page.copies:
            yield copy
        cursor = page.next_cursor
        if cursor is None:
            return
        size = sum(len(copy.transfer.new.envelope) for copy in page.copies)
        fits = PAGE_BYTES * len(page.copies) // max(1, size)
        limit = max(1, min(2 * limit, fits, MOST_JOBS))


async def _queues(driver: Driver, met: dict[str, set[str]]) -> list[lines.QueueLine]:
    """All that there are by now; ``met``: queues and types of jobs."""
    states = {state.name: state for state in await driver.queues()}
    types: dict[str, set[str]] = {name: set() for name in states} | met
    for counts in await driver.counts():
        types.setdefault(counts.queue, set()).add(counts.type)
    return [
        _queue_line(states.get(name) or QueueState(name, False), types[name])
        for name in sorted(types)
    ]


def _queue_line(state: QueueState, types: set[str]) -> lines.QueueLine:
    return lines.QueueLine(state.name, sorted(types), state.paused, state.moving_to, state.moved)


def _key(copy: Copy) -> bytes:
    """READY jobs in the order of their line, with the LEASED ones of a priority behind its READY
    ones, as if their leases were lost; then SCHEDULED, DEAD and kept ones by their times."""
    record = copy.transfer.record
    match record.state:
        case JobState.READY | JobState.LEASED:
            leased = record.state is JobState.LEASED
            order = (1, _ZERO - record.priority, int(leased), copy.place + _ZERO)
        case JobState.SCHEDULED:
            order = (2, 0, (record.available_at or 0) + _ZERO, copy.place + _ZERO)
        case JobState.DEAD:
            order = (3, 0, (record.finished_at or 0) + _ZERO, copy.place + _ZERO)
        case _:
            order = (4, 0, (copy.transfer.keep_until or 0) + _ZERO, copy.place + _ZERO)
    return record.queue.encode() + b"\0" + _KEY.pack(*order)


def _in_order(queues: Sequence[lines.QueueLine], sorter: Sorter) -> Iterator[bytes]:
    """Each queue before its jobs."""
    jobs: Iterator[Entry] = sorter.in_order()
    entry = next(jobs, None)
    for queue in sorted(queues, key=lambda one: one.name.encode()):
        yield lines.encode(queue)
        prefix = queue.name.encode() + b"\0"
        while entry is not None and entry[0].startswith(prefix):
            yield entry[1]
            entry = next(jobs, None)


class _Writer:
    """Counts and sums up what is written."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._sum = hashlib.sha256()
        self._lines = 0

    def put(self, line: bytes) -> None:
        self._sum.update(line)
        self._lines += 1
        self._out.write(line)

    def end(self, jobs: int) -> None:
        self._out.write(lines.encode(lines.End(self._lines, jobs, self._sum.hexdigest())))
        self._out.flush()
