"""P1: what was acknowledged survives the loss of power.

The store lies on a file system of its own, in an image. The file system is shut down under load, as
if the power went: what the kernel had not written by then is gone. Then it is mounted again.
"""

import asyncio
import fcntl
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest

from towline_broker.drivers.interface import Driver, JobQuery
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.heard import Heard

CUTS = int(os.environ.get("TOWLINE_POWER_CUTS", "6"))
#: How long the load runs before each cut, in seconds.
LIFE = (0.05, 0.7)

#: Of Linux: shut down, and write nothing more, not even the file system's own journal.
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = struct.pack("I", 2)

#: Small segments, so that the journal goes from one to the next, and is compacted, all the time.
STORES = {
    "sqlite": "sqlite:///{}/jobs.db",
    "file": "file:///{}/jobs?segment_bytes=65536&min_free_bytes=0",
}

#: Pushes, reserves and acks as fast as it can, and says of each call when it begins, if it counts,
#: and when it has returned.
LOAD = """
import asyncio, sys, time
from towline_broker.domain.jobs import NewJob
from towline_broker.drivers.interface import AckBatch, AckItem, PushBatch, ReserveRequest
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.heard import Heard
from uuid import uuid4

SECOND = 1_000_000

def say(what, ids):
    print(what, *ids, flush=True)

def now():
    return time.time_ns() // 1_000

async def produce(driver):
    while True:
        jobs = [NewJob(str(uuid4()), "q", "T", b"x" * 300) for _ in range(10)]
        await driver.push(PushBatch(jobs, now()))
        say("pushed", (job.id for job in jobs))

async def work(driver):
    while True:
        request = ReserveRequest(["q"], 8, 60 * SECOND, str(uuid4()), now())
        leases = await driver.reserve(request)
        ids = [leased.ref.job_id for leased in leases]
        say("acking", ids)
        acks = [AckItem(leased.ref) for leased in leases]
        await driver.ack(AckBatch(acks, now(), now() + SECOND))
        say("acked", ids)
        await driver.forget(now(), 100)

async def main():
    driver = create_driver(sys.argv[1])
    await driver.open(now(), Heard())
    say("open", [])
    await asyncio.gather(*(produce(driver) for _ in range(3)), work(driver))

asyncio.run(main())
"""


class Disk:
    """A file system in an image, to be cut off. Needs root."""

    def __init__(self, image: Path, place: Path) -> None:
        self.place = place
        self._image = image
        with image.open("wb") as file:
            file.truncate(96 * 1024 * 1024)
        run("mkfs.ext4", "-q", str(image))
        place.mkdir()

    @contextmanager
    def mounted(self) -> Iterator[None]:
        run("mount", "-o", "loop", str(self._image), str(self.place))
        try:
            yield
        finally:
            run("umount", str(self.place))

    def cut(self) -> None:
        directory = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(directory)


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    if os.geteuid() != 0 or which("mkfs.ext4") is None:
        pytest.skip("power loss is tested only as root, with mkfs.ext4: it mounts a file system")
    try:
        disk = Disk(tmp_path / "disk.img", tmp_path / "disk")
        with disk.mounted():
            disk.cut()
    except OSError as error:
        pytest.skip(f"power loss is not tested, this system cannot mount and cut a disk: {error}")
    return disk


class Told:
    """What the load has said of its calls."""

    def __init__(self) -> None:
        self.ids: dict[str, set[str]] = {"open": set(), "pushed": set(), "acking": set()}
        self.ids["acked"] = set()

    def add(self, output: str) -> None:
        for line in output.splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may be cut
                what, *ids = line.split()
                self.ids[what].update(ids)

    @property
    def must_be_there(self) -> set[str]:
        return self.ids["pushed"] - self.ids["acking"]

    @property
    def must_be_gone(self) -> set[str]:
        return self.ids["acked"]


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.timeout(60 + 3 * CUTS)
def test_p1_what_was_acknowledged_survives_the_loss_of_power(
    kind: str, disk: Disk, tmp_path: Path
) -> None:
    url = STORES[kind].format(disk.place)
    told = Told()
    for number in range(CUTS):
        with disk.mounted():
            told.add(output_until_cut(url, disk, tmp_path / f"said-{number}"))
        with disk.mounted():
            stored = asyncio.run(live_jobs(url))
        assert told.must_be_there <= stored, f"lost after cut {number + 1}"
        assert not told.must_be_gone & stored, f"back again after cut {number + 1}"
    assert len(told.ids["pushed"]) > 50 * CUTS
    assert len(told.must_be_gone) > 10 * CUTS


def output_until_cut(url: str, disk: Disk, said: Path) -> str:
    """What it says goes to a file that the cut does not reach."""
    with said.open("wb") as output, said.with_suffix(".err").open("wb") as errors:
        load = subprocess.Popen([sys.executable, "-c", LOAD, url], stdout=output, stderr=errors)
        try:
            deadline = time.monotonic() + 20
            while not said.stat().st_size:
                assert load.poll() is None, said.with_suffix(".err").read_text()
                assert time.monotonic() < deadline, "the store does not open"
                time.sleep(0.005)
            time.sleep(random.uniform(*LIFE))
            disk.cut()
        finally:
            load.kill()
            load.wait()
    return said.read_text()


async def live_jobs(url: str) -> set[str]:
    driver = create_driver(url)
    await driver.open(time.time_ns() // 1_000, Heard())
    try:
        return await ids_in(driver)
    finally:
        await driver.close()


async def ids_in(driver: Driver) -> set[str]:
    page = await driver.list_jobs(JobQuery(1_000))
    ids = {record.id for record in page.records}
    while page.next_cursor is not None:
        page = await driver.list_jobs(JobQuery(1_000, cursor=page.next_cursor))
        ids |= {record.id for record in page.records}
    return ids
