"""Processes that open a store of their own accord: one that holds it, and one that is killed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: How many jobs each push of :func:`killed_while_pushing` has.
BATCH = 20

#: Opens a store, says so, and holds it until its standard input is closed.
_HOLDER = """
import asyncio, sys
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.heard import Heard

async def main():
    driver = create_driver(sys.argv[1])
    await driver.open(1, Heard())
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await driver.close()

asyncio.run(main())
"""

#: Pushes jobs from several tasks as fast as it can and prints the ids of each push that returned.
_PUSHER = """
import asyncio, sys
from uuid import uuid4
from towline_broker.domain.jobs import NewJob
from towline_broker.drivers.interface import PushBatch
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.heard import Heard

async def push_on(driver):
    while True:
        jobs = [NewJob(str(uuid4()), "q", "T", b"x" * 500) for _ in range(int(sys.argv[2]))]
        await driver.push(PushBatch(jobs, 1))
        print(*(job.id for job in jobs), flush=True)

async def main():
    driver = create_driver(sys.argv[1])
    await driver.open(1, Heard())
    await asyncio.gather(*(push_on(driver) for _ in range(4)))

asyncio.run(main())
"""


@contextmanager
def held_by_another_process(url: str) -> Iterator[int]:
    """The store is open in a process of this number."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "open\n"
        yield holder.pid
        holder.stdin.close()
        assert holder.wait(timeout=30) == 0


def killed_while_pushing(url: str) -> set[str]:
    """The ids that a process has reported as pushed by the time it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", _PUSHER, url, str(BATCH)], stdout=subprocess.PIPE, text=True
    ) as pusher:
        assert pusher.stdout is not None
        lines = [pusher.stdout.readline() for _ in range(100)]
        pusher.kill()
        # What it wrote before it died was confirmed too; a line that was cut off was not.
        lines += [line for line in pusher.stdout if line.endswith("\n")]
    assert len(lines) >= 100
    return {job_id for line in lines for job_id in line.split()}
