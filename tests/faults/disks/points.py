"""Every call by which a short life of a store changes its files, and lives that end or fail there.

    python -m tests.faults.disks.points LIBRARY STORE kills|errors|none SEED COUNT

runs COUNT points (0: all), chosen by the seed, and prints what came of them as JSON; or just a life
that nothing happens to, whose files it leaves in the folder for temporary ones. It must have the
library of ``tests/support/failing_calls.py``. Another seed is another life.
"""

import asyncio
import errno
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.disks.lives import Life, Tell, Told, Wrong, judge
from tests.faults.disks.rounds import Rounds
from tests.support.failing_calls import FOR_EVER, SYNCS, WRITES, Calls, What
from towline_broker.drivers.sql.sqlite import wal

#: Small segments, so that the journal goes from one to the next and is compacted.
STORES = {
    "sqlite": "sqlite:///{}/jobs.db?min_free_bytes=0",
    "file": "file:///{}/jobs?segment_bytes=65536&min_free_bytes=0",
}
#: Enough for compaction of the journal, and for the log of SQLite to be brought home a few times.
ROUNDS = {"sqlite": 30, "file": 60}
#: About how many bytes a job has.
PAYLOAD = {"sqlite": 400, "file": 6_000}
PREFIX = "towline-life-"
#: In memory where that can be had: what a disk makes of a sync is not at stake here.
SHARED_MEMORY = Path("/dev/shm")
#: After each life, on what it left.
MORE_ROUNDS = 4
CHECKPOINT_FRAMES = 80


@dataclass(frozen=True, slots=True)
class Point:
    #: From 1.
    number: int
    call: str
    what: What
    error: int = 0
    for_ever: bool = False

    def __str__(self) -> str:
        error = f" {errno.errorcode[self.error]}" if self.error else ""
        more = " and all later ones" if self.for_ever else ""
        return f"{self.what.name} at call {self.number} ({self.call}){error}{more}"


def kills(calls: Sequence[str]) -> list[Point]:
    points = []
    for number, call in enumerate(calls, 1):
        points += [Point(number, call, What.KILL_BEFORE), Point(number, call, What.KILL_AFTER)]
        if call in (*WRITES, "fallocate"):
            points.append(Point(number, call, What.KILL_HALFWAY))
    return points


def errors(calls: Sequence[str]) -> list[Point]:
    points = []
    for number, call in enumerate(calls, 1):
        points.append(Point(number, call, What.FAIL, errno.EIO))
        if call in SYNCS:
            continue
        points.append(Point(number, call, What.FAIL, errno.ENOSPC))
        if call in WRITES:
            points.append(Point(number, call, What.HALF))
            points.append(Point(number, call, What.HALF_THEN_FAIL, errno.ENOSPC, for_ever=True))
    return points


class Lives:
    """Of one kind of store with one seed: the same calls each time, up to where one ends."""

    def __init__(self, library: Path, kind: str, seed: int) -> None:
        self._calls = Calls(library)
        self._url = STORES[kind]
        self._payload, self._rounds = PAYLOAD[kind], ROUNDS[kind]
        self._seed = seed
        wal.CHECKPOINT_FRAMES = CHECKPOINT_FRAMES

    def calls(self, folder: Path) -> list[str]:
        """By which a life that nothing happens to changes its files."""
        with tempfile.TemporaryFile() as log:
            told, _ = self._live(folder, None, log.fileno())
            if not told.closed:
                raise Wrong(f"it did not come to its end: {told}")
            log.seek(0)
            return [line.split()[0] for line in log.read().decode().splitlines()]

    def through(self, point: Point) -> Told:
        """Raises Wrong if what is found afterwards is not what must be there."""
        with new_folder() as folder:
            try:
                told, rounds = self._live(folder, point)
                asyncio.run(judge(self._url.format(folder), rounds, told, more=MORE_ROUNDS))
            except Exception as error:
                raise Wrong(f"{point}, seed {self._seed}: {error!r}") from error
        return told

    def _live(self, folder: Path, point: Point | None, log: int = -1) -> tuple[Told, Rounds]:
        rounds = Rounds(self._seed, self._payload)
        asyncio.run(rounds.open())

        def prepare(_: Tell) -> None:
            if point is None:
                self._calls.arm(folder, log=log)
                return
            last = FOR_EVER if point.for_ever else None
            self._calls.arm(folder, point.what, error=point.error, first=point.number, last=last)

        life = Life(self._url.format(folder), rounds, self._rounds, prepare)
        life.begin()
        return life.end(), rounds


@contextmanager
def new_folder() -> Iterator[Path]:
    place = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=place) as folder:
        yield Path(folder)


def run(library: Path, kind: str, which: str, seed: int, count: int) -> dict[str, object]:
    lives = Lives(library, kind, seed)
    if which == "none":
        return {"calls": Counter(lives.calls(Path(tempfile.mkdtemp(prefix=PREFIX))))}
    with new_folder() as folder:
        calls = lives.calls(folder)
    points = {"kills": kills, "errors": errors}[which](calls)
    if count:
        points = random.Random(seed).sample(points, min(count, len(points)))
    came_to: Counter[str] = Counter()
    wrong: list[str] = []
    rounds = 0
    for point in points:
        try:
            told = lives.through(point)
        except Wrong as error:
            wrong.append(str(error))
            continue
        rounds += told.rounds
        came_to[outcome(told)] += 1
    return {
        "calls": Counter(calls),
        "points": len(points),
        "rounds": rounds,
        "came to": came_to,
        "wrong": wrong,
    }


def outcome(told: Told) -> str:
    if told.killed:
        return "killed"
    if not told.opened:
        return "refused to open"
    if told.failure is not None:
        return "failed"
    return "refused" if told.refused else "went on"


if __name__ == "__main__":
    library, kind, which, seed, count = sys.argv[1:]
    result = run(Path(library), kind, which, int(seed), int(count))
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
