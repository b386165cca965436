"""The reader of a journal, with segments whose bytes are mutated, and with sound frames around
records that no broker wrote."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from tests.drivers.file_support import new_driver
from tests.fuzz.mutation import INTEGERS, NUMBERS, TEXTS, ByteMutator
from tests.fuzz.targets import Found, Stopwatch, Target
from tests.support.stores import ack, open_store, push, reserve
from towline_broker.domain.errors import StoreRefused
from towline_broker.domain.jobs import Failure, Settlement
from towline_broker.domain.retry import DelayList, RetryPolicy
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.file import segments
from towline_broker.drivers.file.reading import Reader
from towline_broker.drivers.file.restoring import Restoration, Unsound
from towline_broker.drivers.interface import NackBatch, NackItem
from towline_broker.testing.factories import START, new_job, new_jobs

#: Where the files of an epoch are, if there is such a place: in memory.
SHM = Path("/dev/shm")

Rows = list[Any]


def bodies() -> list[bytes]:
    """The bodies of the frames that a broker wrote, with jobs of every state."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "store"
        asyncio.run(_fill(directory))
        return [bytes(frame.body) for _, frame in Reader(directory).frames()]


async def _fill(directory: Path) -> None:
    async with open_store(new_driver(directory), now=START) as driver:
        policy = RetryPolicy(2, DelayList((SECOND, 2 * SECOND)))
        await push(driver, *new_jobs(2, unique_key="k"), new_job(due_at=START + HOUR, retry=policy))
        await push(driver, new_job("other", retention=HOUR), new_job(priority=5, unique_key="u"))
        first, second = await reserve(driver, 2)
        await ack(driver, [first])
        failure = Failure("ValueError", "no", "at line 1", START)
        nack = NackItem(second.ref, Settlement.RETRIED, START + 9, failure=failure)
        await driver.nack(NackBatch([nack], START, START + HOUR))
        await reserve(driver, 1)
        await driver.set_paused("other", True)
        await driver.forget(START + 2 * HOUR, 10)


def segment(number: int, first: int, frames: list[bytes]) -> bytes:
    """A segment that holds these, with all checksums as they should be."""
    size = segments.HEADER_SIZE + sum(segments.FRAME_SIZE + len(body) for body in frames)
    header = segments.Header(number, first, size, bytes(8), bytes(8))
    parts = [header.encode()]
    for sequence, body in enumerate(frames, start=first):
        parts += [segments.frame_header(header.seed, sequence, body), body]
    return b"".join(parts)


class Directory:
    """A journal of one or two segments, written again for every input."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, contents: list[bytes]) -> str:
        """What comes of reading it, as a broker that starts does."""
        for number, content in enumerate(contents, start=1):
            segments.path_of(self._path, number).write_bytes(content)
        reader, restoration = Reader(self._path), Restoration()
        try:
            for _, _, records in reader.records():
                for record in records:
                    restoration.apply(record)
            restoration.finish(START)
        except (StoreRefused, Unsound) as error:
            return type(error).__name__
        return "torn" if reader.tail is not None and reader.tail.torn else "read"


class _JournalTarget(Target):
    size = 10_000

    def __init__(self) -> None:
        self._bodies = bodies()

    def epoch(self, rng: Random, count: int) -> Counter[str]:
        answers: Counter[str] = Counter()
        with _directory() as directory:
            for contents in self._inputs(rng, count):
                raw = b"".join(contents)
                try:
                    with Stopwatch(self.name, raw):
                        answers[directory.read(contents)] += 1
                except Found:
                    raise
                except Exception as error:
                    raise Found(self.name, raw, error) from error
        return answers

    def _inputs(self, rng: Random, count: int) -> Iterator[list[bytes]]:
        raise NotImplementedError


class JournalBytes(_JournalTarget):
    """Damage of every kind to the files themselves."""

    name = "journal bytes"

    def _inputs(self, rng: Random, count: int) -> Iterator[list[bytes]]:
        mutator = ByteMutator(rng)
        half = len(self._bodies) // 2
        good = [
            segment(1, 1, self._bodies[:half]),
            segment(2, half + 1, self._bodies[half:]),
        ]
        for _ in range(count):
            changed = list(good)
            place = rng.randrange(2)
            if rng.random() < 0.1:
                changed[place] = mutator.splice(*rng.sample(good, 2))
            else:
                changed[place] = mutator.mutate(good[place])
            yield changed


class JournalRows(_JournalTarget):
    """Frames with good checksums around rows that are wrong."""

    name = "journal rows"

    def _inputs(self, rng: Random, count: int) -> Iterator[list[bytes]]:
        good = [msgspec.msgpack.decode(body) for body in self._bodies]
        mutator = ByteMutator(rng)
        for _ in range(count):
            frames = list(self._bodies)
            place = rng.randrange(len(frames))
            if rng.random() < 0.2:
                frames[place] = mutator.mutate(frames[place])
            else:
                rows = msgspec.msgpack.decode(self._bodies[place])
                for _ in range(rng.choice((1, 1, 2, 5))):
                    _change(rng, rows, rng.choice(good))
                frames[place] = msgspec.msgpack.encode(rows)
            half = rng.randrange(len(frames))
            yield [segment(1, 1, frames[:half]), segment(2, half + 1, frames[half:])]


def _change(rng: Random, rows: Rows, other: Rows) -> None:
    """One value, at any depth."""
    if not rows:
        return
    at = rng.randrange(len(rows))
    value = rows[at]
    if isinstance(value, list) and value and rng.random() < 0.9:
        _change(rng, value, other)
        return
    match rng.randrange(8):
        case 0:
            del rows[at]
        case 1:
            rows.insert(at, deepcopy(rng.choice(rows)))
        case 2:
            rows[at] = None
        case 3:
            rows[at] = rng.choice(TEXTS)
        case 4:
            rows[at] = rng.choice(NUMBERS)
        case 5 if other:
            rows[at] = deepcopy(rng.choice(other))
        case 6 if isinstance(value, int):
            rows[at] = min(value + rng.choice((-1, 1)), 2**64 - 1)
        case _:
            rows[at] = rng.choice((*INTEGERS, 2**63, 2**64 - 1))


@contextmanager
def _directory() -> Iterator[Directory]:
    with tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as folder:
        yield Directory(Path(folder))
