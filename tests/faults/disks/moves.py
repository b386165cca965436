"""A queue moves from one embedded store to another, and the process is killed at a call by which
it changes their files.

    python -m tests.faults.disks.moves LIBRARY FROM TO SEED COUNT

runs COUNT points (0: all), chosen by the seed, and prints what came of them as JSON. After each,
another process opens both stores and takes the move to its end: every job must have arrived as it
was, once, in its order. It must have the library of ``tests/support/failing_calls.py``.
"""

import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.faults.disks.lives import Wrong
from tests.faults.disks.points import STORES, Point, kills, new_folder
from tests.faults.disks.rounds import all_of
from tests.support.failing_calls import Calls, What
from towline_broker.core.broker import Broker
from towline_broker.core.calls import (
    AckCall,
    DeadLetter,
    JobRequest,
    NackCall,
    QueueWeight,
    ReserveCall,
)
from towline_broker.domain.jobs import JobRecord, Leased
from towline_broker.domain.time import HOUR, Micros
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import create_driver

QUEUE = "moving"
OLD, NEW = "default", "new"
#: Jobs that one step of the move carries, so that it takes several.
STEP = 4
MOST_STEPS = 50


class Standing(NamedTuple):
    """What must be the same before and after."""

    #: By their ids.
    jobs: dict[str, JobRecord]
    #: In the order in which they leave.
    ready: list[str]


class Moves:
    def __init__(self, library: Path, old: str, new: str, folder: Path) -> None:
        self._calls = Calls(library)
        self._kinds = {OLD: old, NEW: new}
        self._before = folder / "before"
        self._before.mkdir()
        self._scratch = folder / "scratch"
        self._standing = asyncio.run(self._prepared())

    def calls(self) -> list[str]:
        """By which a move that nothing happens to changes the files of both stores."""
        with tempfile.TemporaryFile() as log:
            self._moved(lambda: self._calls.arm(self._scratch, log=log.fileno()))
            log.seek(0)
            return [line.split()[0] for line in log.read().decode().splitlines()]

    def through(self, point: Point) -> bool:
        """Whether the process was killed there. Raises Wrong."""
        killed = self._moved(lambda: self._calls.arm(self._scratch, point.what, first=point.number))
        try:
            asyncio.run(self._check())
        except Exception as error:
            raise Wrong(f"{point}: {error!r}") from error
        return killed

    def _moved(self, prepare: Callable[[], None]) -> bool:
        """By another process, in a copy of the stores; whether it was killed."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        shutil.copytree(self._before, self._scratch)
        pid = os.fork()
        if pid == 0:
            # Whatever happens, nothing of the process that was forked may run here.
            try:
                prepare()
                asyncio.run(self._move())
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise Wrong("the move ended with an error")
        return os.WIFSIGNALED(status)

    @asynccontextmanager
    async def _broker(self, folder: Path) -> AsyncIterator[tuple[Broker, dict[str, Driver]]]:
        drivers = {
            name: create_driver(STORES[kind].format(folder / name))
            for name, kind in self._kinds.items()
        }
        broker = Broker(drivers)
        await broker.start()
        try:
            yield broker, drivers
        finally:
            await broker.stop()

    async def _prepared(self) -> Standing:
        """Jobs in every state in which they can move."""
        for name in self._kinds:
            (self._before / name).mkdir()
        async with self._broker(self._before) as (broker, drivers):
            ended = await _pushed(broker, 3, retention=HOUR)
            leases = await _reserved(broker, len(ended))
            await broker.settling.ack([AckCall(leases[0].ref, b"done")])
            await broker.settling.nack([NackCall(one.ref, DeadLetter()) for one in leases[1:]])
            ready = await _pushed(broker, 5) + await _pushed(broker, 1, unique_key="k")
            await _pushed(broker, 2, delay=HOUR)
            return Standing(await _jobs(drivers[OLD]), ready)

    async def _move(self) -> None:
        async with self._broker(self._scratch) as (broker, _):
            await _take_to_its_end(broker)

    async def _check(self) -> None:
        async with self._broker(self._scratch) as (broker, drivers):
            await _take_to_its_end(broker)
            jobs, left = await _jobs(drivers[NEW]), await _jobs(drivers[OLD])
            if jobs != self._standing.jobs or left:
                raise Wrong(f"P1: {_difference(jobs, self._standing.jobs)}; left behind: {left}")
            order = [one.ref.job_id for one in await _reserved(broker, 100)]
            if order != self._standing.ready:
                raise Wrong(f"P6: {order} leave, and not {self._standing.ready}")


async def _pushed(
    broker: Broker,
    count: int,
    *,
    retention: Micros = 0,
    unique_key: str | None = None,
    delay: Micros | None = None,
) -> list[str]:
    ids = [f"{random.getrandbits(64):016x}" for _ in range(count)]
    await broker.jobs.push(
        [
            JobRequest(
                *(one, QUEUE, "Move", b"x" * 50),
                retention=retention,
                unique_key=unique_key,
                delay=delay,
            )
            for one in ids
        ]
    )
    return ids


async def _reserved(broker: Broker, count: int) -> list[Leased]:
    return await broker.leasing.reserve(ReserveCall([QueueWeight(QUEUE)], count))


async def _take_to_its_end(broker: Broker) -> None:
    for _ in range(MOST_STEPS):
        if (await broker.moving.step(QUEUE, NEW, STEP)).complete:
            return
    raise Wrong("P1: the move does not come to its end")


async def _jobs(driver: Driver) -> dict[str, JobRecord]:
    return {one.id: one for one in await all_of(driver, QUEUE)}


def _difference(are: dict[str, JobRecord], were: dict[str, JobRecord]) -> str:
    lost = were.keys() - are.keys()
    changed = [(were[one], are[one]) for one in were.keys() & are.keys() if were[one] != are[one]]
    return f"lost {lost}, not as they were {changed}, never pushed {are.keys() - were.keys()}"


def run(library: Path, old: str, new: str, seed: int, count: int) -> dict[str, object]:
    random.seed(seed)
    with new_folder() as folder:
        moves = Moves(library, old, new, folder)
        calls = moves.calls()
        points = [point for point in kills(calls) if point.what is not What.KILL_HALFWAY]
        if count:
            points = random.sample(points, min(count, len(points)))
        killed, wrong = 0, []
        for point in points:
            try:
                killed += moves.through(point)
            except Wrong as error:
                wrong.append(str(error))
    return {"calls": len(calls), "points": len(points), "killed": killed, "wrong": wrong}


if __name__ == "__main__":
    library, old, new, seed, count = sys.argv[1:]
    result = run(Path(library), old, new, int(seed), int(count))
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
