"""P1 of the file store on a disk that keeps no more than it has to: what schedules have found, each
in its smallest form."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from tests.simulation.disk import Disk
from tests.simulation.loop import Loop, Process
from tests.simulation.machine import DiskFaults
from tests.simulation.server import PLACE, file_driver
from towline_broker.domain.errors import StoreFailed
from towline_broker.drivers.file import FileDriver
from towline_broker.drivers.file.segments import path_of
from towline_broker.drivers.interface import CancelRequest, JobQuery, PushBatch
from towline_broker.testing.factories import START, new_job
from towline_broker.testing.heard import Heard

T = TypeVar("T")
SEGMENT_BYTES = 4096


class Machine:
    """One disk, and brokers that live on it one after the other."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.disk.make_directory(PLACE.parent)
        self.disk.sync_directory(Path("/"))
        self.faults = DiskFaults()
        #: The second segment has its name.
        self.renamed = asyncio.Event()

    def life(self, work: Callable[[FileDriver], Awaitable[T]]) -> T:
        """Of a broker that is killed when the work is done."""
        process = Process("broker")

        async def live() -> T:
            driver = file_driver(
                *(loop, self.disk, process, self.faults),
                pace=0.001,
                segment_bytes=SEGMENT_BYTES,
                rng=Random(1),
                reached=self._reached,
            )
            await driver.open(START, Heard())
            return await work(driver)

        with closing(Loop(Random(1), in_order=True)) as loop:
            task = loop.create_task(live(), context=process.context())
            try:
                return loop.run_until_complete(task)
            finally:
                process.alive = False
                self.disk.close_all()

    def _reached(self, number: int) -> None:
        """Before each operation of the disk."""
        if self.disk.exists(path_of(PLACE, 2)):
            self.renamed.set()

    def lose_power(self) -> None:
        self.disk.lose_power(Random(1), share=0.0)


async def ids(driver: FileDriver) -> list[str]:
    return [record.id for record in (await driver.list_jobs(JobQuery(100))).records]


async def push(driver: FileDriver, size: int = 10) -> str:
    job = new_job(envelope=b"x" * size)
    await driver.push(PushBatch([job], START))
    return job.id


def test_p1_what_was_found_after_a_failed_sync_survives_the_loss_of_power() -> None:
    """The system takes pages whose sync failed for written. A broker that finds them in its cache
    and goes on behind them would leave a hole."""
    machine = Machine()

    async def fail(driver: FileDriver) -> None:
        await push(driver)
        # The next operations on the disk are the write of a frame and its sync.
        machine.faults.fail_at[machine.disk.operations + 2] = errno.EIO
        with pytest.raises(StoreFailed):
            await push(driver)

    machine.life(fail)
    found = machine.life(ids)
    assert len(found) == 2
    pushed = machine.life(push)
    machine.lose_power()
    assert machine.life(ids) == [*found, pushed]


def test_p1_a_segment_whose_name_was_not_durable_survives_the_loss_of_power() -> None:
    """A broker is killed between the rename of a segment and the sync of its directory; the next
    one acknowledges jobs in it."""
    machine = Machine()

    async def fill(driver: FileDriver) -> None:
        await push(driver, 3_000)
        beginning = asyncio.ensure_future(push(driver, 3_000))
        await machine.renamed.wait()
        assert not beginning.done()

    machine.life(fill)
    pushed = machine.life(push)
    machine.lose_power()
    assert pushed in machine.life(ids)


def test_p1_a_directory_whose_name_was_not_durable_survives_the_loss_of_power() -> None:
    """A broker is killed between making the directory of its store and the sync of that above; the
    next one acknowledges jobs in it."""
    machine = Machine()
    machine.disk.make_directory(PLACE)
    pushed = machine.life(push)
    machine.lose_power()
    assert pushed in machine.life(ids)


def test_p1_a_segment_without_a_record_is_given_up_in_its_turn() -> None:
    """The first record is larger than a segment, so that the first segment stays empty. A broker
    that does not know of it gives up the second one before it, and the next one finds a gap."""
    machine = Machine()
    machine.life(lambda driver: push(driver, 3 * SEGMENT_BYTES))

    async def compact(driver: FileDriver) -> None:
        store = driver._opened
        assert store is not None
        for _ in range(12):
            job_id = await push(driver, 3 * SEGMENT_BYTES)
            await driver.cancel(CancelRequest([job_id], START, START))
            await driver.forget(START, 100)
        async with asyncio.timeout(60):
            while store.compaction.given_up < 2:
                await store.compaction.round()

    machine.life(compact)
    assert len(machine.life(ids)) == 1
