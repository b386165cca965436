"""A worker whose jobs run in child processes, or one of several processes, as a program.

Arguments: the address of a broker, and options of Worker as JSON. It says on standard output what
its callbacks are told and what its jobs have to say, and "stopped" when it has stopped.
"""

import asyncio
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from towline import Client, Job, current_job, job
from towline.context import JobContext
from towline.middleware import AttemptEnd, UniqueWhileRunning
from towline.worker import JobTimeout, Worker, WorkerChildDied, WorkerStateError
from towline.worker.processes.forking import die_with

kept: list[bytearray] = []
started: list[Worker] = []


def say(what: str) -> None:
    os.write(1, f"{what}\n".encode())  # in one piece, whichever process says it


@job
def where() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "dice": random.random(),
        "stdin": os.read(0, 1).decode(),
        "remaining": current_job().remaining,
    }


@job
async def double(number: int) -> int:
    await asyncio.sleep(0.01)
    return 2 * number


@job
def reverse(text: str) -> str:
    return text[::-1]


@job
def spin() -> None:
    """Holds on to its process, and has started a program that does too."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    say(f"spins {os.getpid()} {other.pid}")
    while True:
        pass


@job
async def sleep_on_loop() -> None:
    try:
        say(f"sleeps {os.getpid()}")
        await asyncio.sleep(1000)
    finally:
        say("cleaned up")


@job
def wait_for_cancel() -> None:
    say(f"waits {os.getpid()}")
    current_job().wait_cancelled(1000)
    say(f"was told: {current_job().cancel_reason}")


@job
def wait_for_file(path: str) -> str:
    say(f"waits {os.getpid()}")
    while not Path(path).exists():
        time.sleep(0.01)
    return "there"


@job
def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@job
def fork(how: str) -> dict[str, int]:
    """Forks a copy that comes out of the handler like the original."""
    copy = os.fork()
    if copy == 0:
        if how == "exit":
            sys.exit(5)
        if how == "raise":
            raise ValueError("in the copy")
        return {}
    _, status = os.waitpid(copy, 0)
    return {"copy": copy, "code": os.waitstatus_to_exitcode(status)}


@job
async def fork_async(how: str) -> dict[str, int]:
    return fork(how)


@job
def leave(code: int) -> None:
    os._exit(code)


class Choosy(Job):
    """Decides by itself what becomes of it when it was killed, or has died."""

    dies: bool

    def handle(self) -> None:
        if self.dies:
            os._exit(1)
        while True:
            pass

    def should_retry(self, error: BaseException) -> bool:
        return not isinstance(error, JobTimeout)

    def next_retry_delay(self, attempt: int, error: BaseException) -> float | None:
        return 7.0 if isinstance(error, WorkerChildDied) else None


class Poison(Job):
    """Kills every process that reads it."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Poison":
        os._exit(1)

    def handle(self) -> None: ...


@job
def report() -> dict[str, Any]:
    me = current_job()
    for step in range(1, 101):
        me.progress(step / 100, f"step {step}")
    me.checkpoint(b"here I was")
    me.logger.warning("half way")
    until = time.monotonic() + 20.0
    left, prolonged = me.lease_remaining or 0.0, 0
    while time.monotonic() < until and prolonged < 3:
        assert not me.possibly_lost
        before, left = left, me.lease_remaining or 0.0
        prolonged += left > before
        time.sleep(0.02)
    earlier = me.last_progress
    return {
        "prolonged": prolonged,
        "earlier": earlier.checkpoint.decode() if earlier else None,
    }


@job
def stop_the_worker() -> str:
    try:
        started[0].stop(wait=False)
    except WorkerStateError as error:
        return str(error)
    return "told"


@job
def grow(megabytes: int) -> int:
    kept.append(bytearray(megabytes * 10**6))
    return os.getpid()


@job
def dispatch(address: str) -> str:
    with Client(address) as client:
        return client.dispatch(double, number=21).id


@job
async def dispatch_on_loop(address: str) -> str:
    from towline import AsyncClient

    async with AsyncClient(address) as client:
        return (await client.dispatch(double, number=21)).id


class Telling:
    def handle(self, job: object, context: JobContext) -> Generator[None, Any, Any]:
        say(f"around {context.type} in {os.getpid()}")
        return (yield)

    def ended(self, end: AttemptEnd) -> None:
        say(f"ended {end.context.type} {end.outcome} {type(end.error).__name__}")


def die_at_the_start(folder: Path, *, spared: bool) -> None:
    """Every process that is forked dies at once; if ``spared``, but for the template."""
    here = os.getpid()

    def after_fork() -> None:
        if not spared or os.getppid() != here:
            (folder / str(os.getpid())).touch()
            os._exit(7)

    os.register_at_fork(after_in_child=after_fork)


def main(address: str, options: dict[str, Any]) -> None:
    die_with(os.getppid())  # also when that is killed
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    before = options.pop("before", "")
    broken = options.pop("broken", "")
    telling = options.pop("telling", False)
    worker_pid = os.getpid()
    if options.pop("unique", False):
        options["middleware"] = [UniqueWhileRunning()]
    if broken:
        from towline.worker.processes import process_pool

        process_pool.MAX_FAILED_STARTS = 3
        die_at_the_start(Path(broken), spared=options.get("processes", 1) == 1)
    if telling:
        options["middleware"] = [Telling()]
        options["on_job_start"] = lambda job: say(f"start {type(job).__name__} {os.getpid()}")
        options["on_job_complete"] = lambda job, result: say(f"complete {result}")
        options["on_job_error"] = lambda job, error, trace: say(
            f"error {type(job).__name__} {type(error).__name__} {os.getpid() != worker_pid}"
        )
    worker = Worker(address, **options)
    started.append(worker)
    if before == "a run":
        worker.start()
        while not worker.stats.processed:
            time.sleep(0.01)
        worker.stop()
        say("first run is over")
    if "prepare" in before:
        worker.prepare()
    if "a client" in before:
        client = Client(address)
        client.queue_service  # noqa: B018 - opens the channel
    worker.run()
    say(f"stopped {worker.stats.processed} {worker.stats.failed}")


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
