"""A worker of the SDK in a process of its own; its jobs write a diary.

    python -m tests.faults.flaky_worker ADDRESS DIARY

It says "up" on standard output when all is loaded. Each line of the diary is a job that began: its
id and the attempt.
"""

import os
import sys
import time

from towline import Worker, current_job, job

QUEUE = "flaky"
#: Both in seconds.
LEASE, LONG = 8.0, 10.0

diary = -1


def write() -> None:
    me = current_job()
    os.write(diary, f"{me.id} {me.attempt}\n".encode())


@job(queue=QUEUE)
def short() -> None:
    write()


@job(queue=QUEUE)
def longer_than_its_lease() -> None:
    write()
    time.sleep(LONG)


if __name__ == "__main__":
    address, path = sys.argv[1:]
    diary = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    worker = Worker(address, [QUEUE], concurrency=4, lease=LEASE)
    os.write(1, b"up\n")
    worker.run()
