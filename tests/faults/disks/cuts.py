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

from tests.faults.disks.lives import Life, Tell, Told, Wrong, judge
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


def run(kind: str, folder: Path, seed: int, cuts: int) -> dict[str, object]:
    wal.CHECKPOINT_FRAMES = CHECKPOINT_FRAMES
    disk = Disk(folder / "disk.img", folder / "disk")
    url = STORES[kind].format(disk.place)
    rounds, chance = Rounds(seed, PAYLOAD), random.Random(seed)
    asyncio.run(rounds.open())
    figures: dict[str, Any] = {"cuts": 0, "while tidying": 0, "rounds": 0, "wrong": []}
    for number in range(cuts):
        with disk.mounted():
            told = _life_until_cut(url, rounds, disk, chance)
        figures["cuts"] += 1
        figures["while tidying"] += told.tidying
        figures["rounds"] += told.rounds
        try:
            with disk.mounted():
                asyncio.run(judge(url, rounds, told))
        except Exception as error:
            figures["wrong"].append(f"cut {number + 1}: {error!r}")
            break
    return figures | {"answered": rounds.answered}


def _life_until_cut(url: str, rounds: Rounds, disk: Disk, chance: random.Random) -> Told:
    life_time, by_itself = chance.uniform(*LIFE), chance.random() < 0.5
    turn, delay = chance.randint(*TURN), chance.uniform(*TIDYING)

    def prepare(tell: Tell) -> None:
        _watch_tidying(tell, disk, turn if by_itself else None, delay)

    life = Life(url, rounds, FOR_EVER, prepare)
    life.begin()
    until = time.monotonic() + 20
    while not life.told.opened and not life.told.wrong:
        if not life.heard(until - time.monotonic()):
            raise Wrong(f"the store does not open: {life.end(kill=True)}")
    until = time.monotonic() + (PATIENCE if by_itself else life_time)
    while (left := until - time.monotonic()) > 0 and life.heard(left):
        pass
    disk.cut()
    return life.end(kill=True)


def _watch_tidying(tell: Tell, disk: Disk, turn: int | None, delay: float) -> None:
    """Has the store tell when it begins and ends to tidy up, and cut itself off in that turn."""
    carry_on, bring_home = Compaction.round, wal.Checkpoints._make
    turns = count(1)

    def begins() -> None:
        tell("tidying")
        if next(turns) == turn:
            cutter = threading.Timer(delay, disk.cut)
            cutter.daemon = True
            cutter.start()

    @wraps(carry_on)
    async def watched_round(self: Compaction) -> bool:
        if self.wanted:
            begins()
        done = await carry_on(self)
        tell("tidy")
        return done

    @wraps(bring_home)
    def watched_checkpoint(self: wal.Checkpoints, mode: str) -> None:
        begins()
        bring_home(self, mode)
        tell("tidy")

    _replace(Compaction, "round", watched_round)
    _replace(wal.Checkpoints, "_make", watched_checkpoint)


def _replace(owner: type, name: str, method: Callable[..., Awaitable[bool] | None]) -> None:
    setattr(owner, name, method)


if __name__ == "__main__":
    kind, folder, seed, cuts = sys.argv[1:]
    try:
        result = run(kind, Path(folder), int(seed), int(cuts))
    except NoDisk as missing:
        result = {"missing": str(missing)}
    sys.stdout.write(json.dumps(result) + "\n")
