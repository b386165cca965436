"""A broker that is killed loses nothing that it has confirmed."""

import subprocess
import sys
from pathlib import Path

from tests.drivers.sqlite_support import LEASE, names_in, opened, push, reserve, write
from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import SECOND
from towline_broker.drivers.interface import JobQuery
from towline_broker.drivers.sql import open_sqlite
from towline_broker.testing.factories import START, new_job
from towline_broker.testing.store import Heard

#: Pushes jobs from several tasks as fast as it can and prints the ids of each push that returned.
PUSHER = """
import asyncio, sys
from uuid import uuid4
from towline_broker.domain.jobs import NewJob
from towline_broker.drivers.interface import PushBatch
from towline_broker.drivers.sql import open_sqlite
from towline_broker.testing.store import Heard

async def push_on(driver):
    while True:
        jobs = [NewJob(str(uuid4()), "q", "T", b"x" * 500) for _ in range(20)]
        await driver.push(PushBatch(jobs, 1))
        print(*(job.id for job in jobs), flush=True)

async def main():
    driver = open_sqlite(sys.argv[1])
    await driver.open(1, Heard())
    await asyncio.gather(*(push_on(driver) for _ in range(4)))

asyncio.run(main())
"""


async def test_every_push_that_returned_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    confirmed: set[str] = set()
    for _ in range(3):
        confirmed |= killed_while_pushing(path)
        async with opened(path) as driver:
            stored, cursor = set(), None
            while True:
                page = await driver.list_jobs(JobQuery(1_000, cursor=cursor))
                stored |= {record.id for record in page.records}
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert confirmed <= stored
            # Each push was whole or not there at all.
            assert len(stored) % 20 == 0
            (counts,) = await driver.counts()
            assert counts.depth.ready == counts.totals.pushed == len(stored)


def killed_while_pushing(path: Path) -> set[str]:
    """The ids that a process has reported as pushed by the time it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", PUSHER, f"sqlite:///{path}"], stdout=subprocess.PIPE, text=True
    ) as pusher:
        assert pusher.stdout is not None
        lines = [pusher.stdout.readline() for _ in range(100)]
        pusher.kill()
        # What it wrote before it died was confirmed too; a line that was cut off was not.
        lines += [line for line in pusher.stdout if line.endswith("\n")]
    assert len(lines) >= 100
    return {job_id for line in lines for job_id in line.split()}


async def test_a_reopened_store_goes_on_from_its_latest_time(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await push(driver, new_job(), now=START + 90 * SECOND)
    driver = open_sqlite(f"sqlite:///{path}")
    # The machine's clock was set back meanwhile.
    assert await driver.open(START - 5 * SECOND, Heard()) == START + 90 * SECOND
    await driver.close()


async def test_live_leases_begin_their_term_anew(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await push(driver, new_job())
        (leased,) = await reserve(driver, 1)
        assert leased.lease_until == START + LEASE
    reopened_at = START + 100 * SECOND
    async with opened(path, now=reopened_at) as driver:
        (record,) = await driver.leases([leased.ref])
        assert record is not None
        assert record.lease_until == reopened_at + LEASE
        assert await driver.expired_leases(reopened_at + LEASE - 1, 10) == []
        (job,) = (await driver.list_jobs(JobQuery(10))).records
        assert job.state is JobState.LEASED


async def test_a_clock_that_was_set_back_shortens_no_lease(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await push(driver, new_job())
        (leased,) = await reserve(driver, 1)
        await push(driver, new_job(), now=START + 20 * SECOND)
    async with opened(path, now=START - 60 * SECOND) as driver:
        (record,) = await driver.leases([leased.ref])
        assert record is not None
        assert record.lease_until == START + 20 * SECOND + LEASE


async def test_an_opened_store_tells_of_jobs_that_are_ready(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await push(driver, new_job("a"), new_job("a"), new_job("b"))
    driver, heard = open_sqlite(f"sqlite:///{path}"), Heard()
    await driver.open(START, heard)
    assert heard.take() == ({"a": 2, "b": 1}, [])
    await driver.close()


async def test_a_store_left_half_made_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    write(Path(f"{path}.creating"), b"the machine stopped here")
    async with opened(path) as driver:
        await push(driver, new_job())
    assert names_in(tmp_path) == ["jobs.db", "jobs.db.lock"]
