"""A worker of the SDK in a process of its own, made to be told to stop; its jobs write a diary.

    python -m tests.faults.sigterm_worker 127.0.0.1:7480 thread 30 seen.txt

Arguments: the address of a broker, the pool, the drain timeout in seconds, the diary. It says "up"
on standard output when all is loaded. Each line of the diary is a job that began or was done: its
id, the attempt, and which of the two.
"""

import asyncio
import os
import random
import sys

from towline import Worker, current_job, job
from towline.worker.options import PoolName

QUEUE = "sigterms"
CONCURRENCY = 4
#: What a job takes, in seconds: some end before their worker does, some are cut short.
WORK = (0.0, 0.05)

diary = -1


def write(what: str) -> None:
    me = current_job()
    os.write(diary, f"{me.id} {me.attempt} {what}\n".encode())


@job
def in_thread() -> None:
    write("began")
    if not current_job().wait_cancelled(random.uniform(*WORK)):
        write("done")


@job
async def on_loop() -> None:
    write("began")
    await asyncio.sleep(random.uniform(*WORK))
    write("done")


def main(address: str, pool: PoolName, drain_timeout: float, path: str) -> None:
    global diary
    diary = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    worker = Worker(
        address,
        [QUEUE],
        pool=pool,
        concurrency=CONCURRENCY,
        drain_timeout=drain_timeout,
    )
    os.write(1, b"up\n")
    worker.run()


if __name__ == "__main__":
    given: PoolName = sys.argv[2]  # type: ignore[assignment]  # Worker checks it
    main(sys.argv[1], given, float(sys.argv[3]), sys.argv[4])
