"""A worker of the SDK in a process of its own, and what it says.

    python -m tests.faults.sdk_worker 127.0.0.1:7480 queue 1.0 0.5

Arguments: the address of a broker, the queue, the length of a lease and how long a job takes, in
seconds. It says on standard output what happens, in lines: "up", "began" with a job's id, attempt
and the time, and "lost" with a message that names the job.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

from towline import LeaseLost, Worker, current_job, job

#: The only type of its jobs.
TYPE = "Timed"
CONCURRENCY = 4
#: How long it is waited for what it says, and for its end.
SECONDS = 30.0

takes = 0.0
_told = threading.Lock()


class SdkWorker:
    """What it says is heard while it runs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._lines: SimpleQueue[list[str]] = SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def hears(self, word: str) -> list[str]:
        """The words behind the next ``word``; others are passed over."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                first, *rest = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise AssertionError(f"the worker did not say {word!r}") from None
            if first == word:
                return rest

    def began(self, count: int) -> dict[str, tuple[int, float]]:
        """Attempt and time by the id of so many jobs that begin."""
        lines = [self.hears("began") for _ in range(count)]
        return {job_id: (int(attempt), float(at)) for job_id, attempt, at in lines}

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.split())


@contextmanager
def sdk_worker(
    address: str, queue: str, *, lease: float, job_seconds: float
) -> Iterator[SdkWorker]:
    """Runs while the context lasts, and may be stopped by a signal then."""
    arguments = [address, queue, str(lease), str(job_seconds)]
    command = [sys.executable, "-m", "tests.faults.sdk_worker", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            running = SdkWorker(process)
            running.hears("up")
            yield running
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(SECONDS)


def say(*words: object) -> None:
    with _told:
        print(*words, flush=True)  # noqa: T201 -- whoever started it reads this


@job(type=TYPE)
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
