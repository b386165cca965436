"""A worker in a process of its own, for tests that send signals to it.

Arguments: the address of a broker, the pool, the drain timeout in seconds. It says on standard
output when a job has started, when something is wrong, and when it has stopped.
"""

import asyncio
import logging
import os
import sys
import time
from pathlib import Path

from towline.context import current_job
from towline.jobs import job
from towline.worker import Worker


def say(what: str) -> None:
    os.write(1, f"{what}\n".encode())  # in one piece, whichever thread says it


@job
def wait_for_file(path: str) -> str:
    say("started")
    while not Path(path).exists():
        time.sleep(0.01)
    return "there"


@job
async def wait_on_loop() -> None:
    say("started")
    await asyncio.sleep(1000)


@job
def wait_for_cancel() -> None:
    say("started")
    current_job().wait_cancelled(1000)


@job
def hang() -> None:
    say("started")
    time.sleep(1000)


if __name__ == "__main__":
    address, pool, drain_timeout = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    Worker(
        address,
        concurrency=4,
        pool="async" if pool == "async" else "thread",
        drain_timeout=float(drain_timeout),
        on_error=lambda error: say("error"),
    ).run()
    say("stopped")
