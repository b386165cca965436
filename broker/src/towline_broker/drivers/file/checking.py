"""Whether the journal of a store is sound, also while a broker writes to it. Changes nothing."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import Micros
from towline_broker.domain.words import many
from towline_broker.drivers.file import segments
from towline_broker.drivers.file.reading import Damaged, Reader
from towline_broker.drivers.file.restoring import Restoration, Unsound
from towline_broker.drivers.findings import Finding, Report

T = TypeVar("T")

_TRIES = 10
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Sound:
    """What was read of a sound journal."""

    reader: Reader
    frames: int
    records: int
    #: The latest time that any record tells.
    clock: Micros


def read(directory: Path) -> Sound:
    """All frames and records. Raises StoreRefused, as :class:`Damaged` where a place can be named,
    StoreUnavailable and OSError."""
    return _tried(lambda: read_once(directory))


def read_once(directory: Path, restoration: Restoration | None = None) -> Sound:
    """The same of a journal that nobody writes to. ``restoration`` is given what was read."""
    reader, frames, count, clock, needed = Reader(directory), 0, 0, 0, 1
    for header, frame, records in reader.records():
        frames += 1
        count += len(records)
        for record in records:
            clock, needed = max(clock, record.now), max(needed, record.first_segment)
            if restoration is None:
                continue
            try:
                restoration.apply(record)
            except Unsound as error:
                path = segments.path_of(directory, header.number)
                what = f"a sound frame holds a record that no release wrote ({error})"
                raise Damaged(path, frame.offset, what) from error
    if reader.oldest is not None and reader.oldest > needed:
        missing = segments.path_of(directory, needed)
        raise StoreRefused(f"{missing} is missing: {segments.WAY_OUT}")
    return Sound(reader, frames, count, clock)


def check(directory: Path) -> Report:
    """Reads it as a broker does that opens it. Raises OSError, StoreUnavailable (segments go faster
    than they can be read), and StoreRefused if there is no journal."""
    if not segments.numbers_in(directory):
        raise StoreRefused(f"there is no journal in {directory}")
    try:
        return _tried(lambda: _restored(directory))
    except StoreRefused as damage:
        return Report("", [Finding(str(damage))])


def _restored(directory: Path) -> Report:
    restoration = Restoration()
    sound = read_once(directory, restoration)
    state = restoration.finish(0)
    jobs = Counter(job.state for job in state.jobs.values())
    told = ", ".join(
        f"{count:,} {JobState(state).name.lower()}" for state, count in sorted(jobs.items())
    )
    torn = sound.reader.tail is not None and sound.reader.tail.torn
    return Report(
        many(jobs.total(), "job")
        + (f": {told}" if told else "")
        + f"; {many(sound.frames, 'frame')}"
        + ("; one that was not finished is cut off when the store is opened" if torn else ""),
        sealed={
            name: queue.moving_to
            for name, queue in state.queues.items()
            if queue.moving_to and not queue.moved
        },
    )


def _tried(look: Callable[[], T]) -> T:
    """What looks like damage may be a frame that was just being written, or a segment that was
    given up just then. Damage is what is found at the same place twice."""
    found = ""
    for _ in range(_TRIES):
        try:
            return look()
        except FileNotFoundError:
            found = ""
        except StoreRefused as damage:
            if str(damage) == found:
                raise
            found = str(damage)
        time.sleep(_PAUSE_SECONDS)
    raise StoreUnavailable(
        "the journal changes faster than it can be read; make a backup, which is read through"
    )
