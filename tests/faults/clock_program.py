"""A producer or a worker of the SDK, in a process of its own, whose wall clock a test sets.

    python -m tests.faults.clock_program worker|producer ADDRESS

A worker says "up"; a producer says of each job how it went, and how long that took by a clock that
is not set.
"""

import sys
import time

from towline import Client, Worker, current_job, job

QUEUE = "clocks"
#: In seconds.
LEASE = 2.0
WORK = 4.0
DELAY = 3.0


@job(queue=QUEUE, timeout=20, max_attempts=3)
def long_work() -> int:
    """Longer than its lease."""
    time.sleep(WORK)
    return current_job().attempt


@job(queue=QUEUE, timeout=20, max_attempts=3)
def short_work() -> int:
    return current_job().attempt


def produce(address: str) -> None:
    with Client(address) as client:
        began = time.monotonic()
        jobs = {
            "long": client.dispatch(long_work, retention=600),
            "delayed": client.dispatch(short_work, delay=DELAY, retention=600),
        }
        print("pushed", flush=True)  # noqa: T201 -- the test reads it
        for name, handle in jobs.items():
            attempt = handle.result(timeout=30)
            print(name, attempt, time.monotonic() - began, flush=True)  # noqa: T201 -- as above
        while time.monotonic() < began + 6:
            assert client.dispatch(short_work, retention=600).result(timeout=5) == 1


if __name__ == "__main__":
    role, address = sys.argv[1:]
    if role == "producer":
        produce(address)
    else:
        Worker(address, [QUEUE], concurrency=4, lease=LEASE).run()
