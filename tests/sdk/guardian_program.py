"""A worker in a process of its own whose handlers let nothing else run in it.

Arguments: the address of a broker, the queue, the pool, the lease in seconds, whether it has a
guardian (0 or 1), the concurrency. It says on standard output when a job has started.
"""

import ctypes
import os
import sys
import time

from towline import Worker, current_job, job

MICROSECONDS = 1_000_000


def started() -> None:
    os.write(1, b"started\n")


@job
def hold_gil(seconds: float, after: float = 0) -> int:
    """A PyDLL calls C without giving back the interpreter's lock."""
    time.sleep(after)
    started()
    ctypes.PyDLL(None).usleep(int(seconds * MICROSECONDS))
    return current_job().attempt


@job
async def hold_gil_on_loop(seconds: float) -> int:
    started()
    ctypes.PyDLL(None).usleep(int(seconds * MICROSECONDS))
    return current_job().attempt


@job
def spin(seconds: float) -> int:
    started()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return current_job().attempt


@job
async def spin_on_loop(seconds: float) -> int:
    started()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return current_job().attempt


if __name__ == "__main__":
    address, queue, pool, lease, guardian, concurrency = sys.argv[1:]
    Worker(
        address,
        [queue],
        concurrency=int(concurrency),
        pool="async" if pool == "async" else "thread",
        lease=float(lease),
        guardian=guardian == "1",
    ).run()
