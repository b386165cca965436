"""A store on a small disk of its own, which is filled up.

    python -m tests.faults.disks.filling STORE FOLDER own|others

fills it by pushes until they are refused (``others``: then another program takes what is left),
settles what is there, makes room again, and prints as JSON what came of it; needs root.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from tests.support.disks import MIB, Disk, NoDisk
from tests.support.stores import reserve, stored_ids
from towline_broker.domain.errors import StoreFull, StoreUnavailable
from towline_broker.domain.jobs import Failure, Leased, Settlement
from towline_broker.domain.time import SECOND
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    Driver,
    NackBatch,
    NackItem,
    PushBatch,
)
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.factories import START, new_jobs
from towline_broker.testing.heard import Heard

STORES = {
    "sqlite": "sqlite:///{}/jobs.db?min_free_bytes={}",
    "file": "file:///{}/jobs?segment_bytes=65536&min_free_bytes={}",
}
#: Of the disk, what a store leaves free of it for settling, and a job. SQLite needs more: its log
#: grows by 16 MiB before it begins anew.
DISK = {"sqlite": 64 * MIB, "file": 20 * MIB}
RESERVE = {"sqlite": 24 * MIB, "file": 5 * MIB}
ENVELOPE = {"sqlite": 20_000, "file": 5_000}
BATCH = 10
FAILURE = Failure("ValueError", "no such customer", "x" * 300, START)


class Filling:
    def __init__(self, driver: Driver, envelope: int) -> None:
        self._driver = driver
        self._envelope = b"x" * envelope
        #: What was refused, by the call and the error.
        self.refused: Counter[str] = Counter()
        self.pushed: set[str] = set()
        self.acked: set[str] = set()

    async def fill(self) -> str:
        """Pushes until that is refused; returns why."""
        while True:
            try:
                await self.push()
            except StoreFull as full:
                return f"{full.reason}: {full}"

    async def push(self) -> None:
        jobs = new_jobs(BATCH, envelope=self._envelope)
        await self._driver.push(PushBatch(jobs, START))
        self.pushed.update(job.id for job in jobs)

    async def settle(self, most: int) -> None:
        """Reserves, fails once and then acknowledges so many jobs."""
        for _ in range(most // BATCH):
            if leased := await self._tried("reserve", reserve(self._driver, BATCH)):
                await self._tried("nack", self._nack(leased))
            if leased := await self._tried("reserve", reserve(self._driver, BATCH)):
                await self._tried("ack", self._ack(leased))
            await self._tried("forget", self._driver.forget(START + SECOND, 1_000))

    async def _nack(self, leased: list[Leased]) -> None:
        nacks = [NackItem(one.ref, Settlement.RETRIED, failure=FAILURE) for one in leased]
        await self._driver.nack(NackBatch(nacks, START, START + SECOND))

    async def _ack(self, leased: list[Leased]) -> None:
        acks = [AckItem(one.ref, b"done") for one in leased]
        await self._driver.ack(AckBatch(acks, START, START + SECOND))
        self.acked.update(one.ref.job_id for one in leased)

    async def _tried(self, what: str, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except StoreUnavailable as error:
            self.refused[f"{what}: {error}"] += 1
            return None


async def run(url: str, place: Path, envelope: int, *, others: bool) -> dict[str, object]:
    driver = create_driver(url)
    await driver.open(START, Heard())
    filling = Filling(driver, envelope)
    why = await filling.fill()
    stored = len(filling.pushed)
    junk = place / "junk"
    if others:
        _take_all(junk)
    left = _free(place)
    await filling.settle(stored // 2)
    in_between = Counter(filling.refused)
    if others:
        junk.unlink()
    await filling.settle(len(filling.pushed) - len(filling.acked))
    for _ in range(5):
        await filling.push()
    found = set(await stored_ids(driver))
    await driver.close()
    driver = create_driver(url)
    await driver.open(START, Heard())
    found_again = set(await stored_ids(driver))
    await driver.close()
    return {
        "why": why,
        "pushed": len(filling.pushed),
        "acked": len(filling.acked),
        "free": left,
        "refused while full": in_between,
        "refused later": Counter(filling.refused) - in_between,
        "lost": len(filling.pushed - filling.acked - found_again),
        "back again": len(filling.acked & found_again),
        "changed by a restart": len(found ^ found_again),
    }


def _take_all(junk: Path) -> None:
    file = os.open(junk, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    os.write(file, b"x" * size)
            except OSError:
                continue
    finally:
        os.close(file)


def _free(place: Path) -> int:
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def main(kind: str, folder: Path, who: str) -> dict[str, object]:
    try:
        with Disk(folder / "disk.img", folder / "disk", DISK[kind]) as disk, disk.mounted():
            url = STORES[kind].format(disk.place, RESERVE[kind])
            return asyncio.run(run(url, disk.place, ENVELOPE[kind], others=who == "others"))
    except NoDisk as missing:
        return {"missing": str(missing)}


if __name__ == "__main__":
    kind, folder, who = sys.argv[1:]
    sys.stdout.write(json.dumps(main(kind, Path(folder), who)) + "\n")
