"""A store on a disk of its own, whose power goes again and again while it works.

    python -m tests.faults.disks.cuts STORE FOLDER SEED CUTS

prints the figures as JSON; needs root. Half of the cuts come at any moment, the others while the
journal is compacted or the log of SQLite is brought home.
"""

import asyncio
import json
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any

from tests.faults.disks.lives import LONGEST, Life, Tell, Told, judge
from tests.faults.disks.rounds import Rounds
from tests.support.disks import Disk, NoDisk
from towline_broker.drivers.file.compaction import Compaction
from towline_broker.drivers.sql.sqlite import wal

#: Small segments, and a log that is brought home often: either happens all the time.
STORES = {
    "sqlite": "sqlite:///{}/jobs.db?min_free_bytes=0",
    "file": "file:///{}/jobs?segment_bytes=65536&min_free_bytes=0",
}
CHECKPOINT_FRAMES = 200
#: How long a store works before a cut, in seconds.
LIFE = (0.0, 0.35)
#: Or: which time of its tidying up it is, how long after its beginning, and how long that is
#: waited for.
TURN = (1, 3)
TIDYING = (0.0, 0.008)
PATIENCE = 2.0
PAYLOAD = 1_500
FOR_EVER = 1_000_000


def run(kind: str, folder: Path, seed: int, cuts: int) -> dict[str, Any]:
    wal.CHECKPOINT_FRAMES = CHECKPOINT_FRAMES
    rounds, chance = Rounds(seed, PAYLOAD), random.Random(seed)
    asyncio.run(rounds.open())
    figures: dict[str, Any] = {"cuts": 0, "while tidying": 0, "wrong": []}
    with Disk(folder / "disk.img", folder / "disk") as disk:
        url = STORES[kind].format(disk.place)
        for number in range(1, cuts + 1):
            with disk.mounted():
                told = _life_until_cut(url, rounds, disk, chance)
            figures["cuts"] = number
            figures["while tidying"] += told.tidying
            try:
                with disk.mounted():
                    asyncio.run(judge(url, rounds, told))
            except Exception as error:
                figures["wrong"].append(f"cut {number}: {error!r}; it had told: {told}")
                break
    return figures | {"answered": rounds.answered}


def _life_until_cut(url: str, rounds: Rounds, disk: Disk, chance: random.Random) -> Told:
    moment = Moment(disk, chance)
    life = Life(url, rounds, FOR_EVER, moment.watch, moment.has_come)
    life.begin()
    until = time.monotonic() + LONGEST
    while not life.told.cut and life.heard(until - time.monotonic()):
        pass
    return life.end(kill=True)


class Moment:
    """When the process cuts off its own disk: at any time, or in the middle of tidying up.

    What is answered once the cut has begun does not count. While a file system is being shut down
    it may say of a sync that it was made, and leave it undone, which no loss of power does.
    """

    def __init__(self, disk: Disk, chance: random.Random) -> None:
        self._disk = disk
        self._life_time = chance.uniform(*LIFE)
        self._turn = chance.randint(*TURN) if chance.random() < 0.5 else None
        self._delay = chance.uniform(*TIDYING)
        self._turns = count(1)
        self._begun = threading.Event()
        self._tell: Tell = print

    def has_come(self) -> bool:
        return self._begun.is_set()

    def watch(self, tell: Tell) -> None:
        """Has the store tell when it begins and ends to tidy up."""
        self._tell = tell
        carry_on, bring_home = Compaction.round, wal.Checkpoints._make
        moment = self

        @wraps(carry_on)
        async def watched_round(self: Compaction) -> bool:
            if self.wanted:
                moment._tidying_begins()
            done = await carry_on(self)
            tell("tidy")
            return done

        @wraps(bring_home)
        def watched_checkpoint(self: wal.Checkpoints, mode: str) -> None:
            moment._tidying_begins()
            bring_home(self, mode)
            tell("tidy")

        _replace(Compaction, "round", watched_round)
        _replace(wal.Checkpoints, "_make", watched_checkpoint)
        self._cut_in(self._life_time if self._turn is None else PATIENCE)

    def _tidying_begins(self) -> None:
        self._tell("tidying")
        if next(self._turns) == self._turn:
            self._cut_in(self._delay)

    def _cut_in(self, seconds: float) -> None:
        cutter = threading.Timer(seconds, self._cut)
        cutter.daemon = True
        cutter.start()

    def _cut(self) -> None:
        if not self._begun.is_set():
            self._begun.set()
            self._disk.cut()
            self._tell("cut")


def _replace(owner: type, name: str, method: Callable[..., Awaitable[bool] | None]) -> None:
    setattr(owner, name, method)


if __name__ == "__main__":
    kind, folder, seed, cuts = sys.argv[1:]
    try:
        result = run(kind, Path(folder), int(seed), int(cuts))
    except NoDisk as missing:
        result = {"missing": str(missing)}
    sys.stdout.write(json.dumps(result) + "\n")
