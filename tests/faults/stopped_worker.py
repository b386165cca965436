"""A worker of the SDK in a process of its own, made to be stopped by a signal and woken again.

    python -m tests.faults.stopped_worker 127.0.0.1:7480 stopped 1.0 0.5

Arguments: the address of a broker, the queue, the length of a lease and how long a job takes, in
seconds. It says on standard output what happens, in lines: "up", "began" with a job's id, attempt
and the time, and "lost" with a message that names the job.
"""

import sys
import threading
import time

from towline import LeaseLost, Worker, current_job, job

CONCURRENCY = 4

takes = 0.0
_told = threading.Lock()


def say(*words: object) -> None:
    with _told:
        print(*words, flush=True)  # noqa: T201 -- whoever started it reads this


@job(type="Stopped")
def handle() -> None:
    me = current_job()
    say("began", me.id, me.attempt, time.monotonic())
    time.sleep(takes)


def on_error(error: BaseException) -> None:
    if isinstance(error, LeaseLost):
        say("lost", error)


def main(address: str, queue: str, lease: float, seconds: float) -> None:
    global takes
    takes = seconds
    worker = Worker(
        address, [queue], pool="thread", concurrency=CONCURRENCY, lease=lease, on_error=on_error
    )
    say("up")
    worker.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
