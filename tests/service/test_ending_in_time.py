"""A broker that is told to stop ends in time, whatever hangs, and its exit code says how."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from tests.support.broker_process import BrokerProcess, failed_start, start_command
from tests.support.calls import Calls, calls_to
from tests.support.third_party import install
from tests.support.waiting import until
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushRequest
from towline_broker.server.exits import ExitCode
from towline_broker.server.life.stopping import GRACE, LAST_SECONDS, TELLING

#: What may pass between the moment that was set and the end of a process, on a busy machine.
SLACK = 3.0

#: The type of a job, or the url, says what hangs, or where its defect is.
HANGING_STORE = """
import asyncio
import time
from towline_broker.drivers.registry import create_driver

def open_store(url):
    driver = create_driver("memory:")
    open_, push, close = driver.open, driver.push, driver.close
    async def hanging_open(now, listener):
        if "open" in url:
            print("stuck now", flush=True)
            await asyncio.to_thread(time.sleep, 3600)
        if "defect" in url:
            raise RuntimeError("hunter2")
        return await open_(now, listener)
    async def hanging_push(batch):
        types = {job.type for job in batch.jobs}
        if "Thread" in types:
            print("stuck now", flush=True)
            await asyncio.to_thread(time.sleep, 3600)
        if "Loop" in types:
            print("stuck now", flush=True)
            time.sleep(3600)
        return await push(batch)
    async def hanging_close():
        if "close" in url:
            await asyncio.sleep(3600)
        await close()
    driver.open, driver.push, driver.close = hanging_open, hanging_push, hanging_close
    return driver
"""


@pytest.fixture
def hanging(tmp_path: Path) -> dict[str, str]:
    """The environment in which there is a store hanging:"""
    return install(tmp_path, "hanging", HANGING_STORE)


@pytest.fixture
def started(hanging: dict[str, str]) -> Iterator[Callable[[str], BrokerProcess]]:
    with ExitStack() as running:
        options = ("--drain-timeout", "100ms")
        yield lambda url: running.enter_context(BrokerProcess(url, *options, environment=hanging))


async def test_it_ends_in_time_whatever_hangs(started: Callable[[str], BrokerProcess]) -> None:
    thread, close, loop = started("hanging:"), started("hanging:close"), started("hanging:")
    async with calls_to(thread.address) as to_thread, calls_to(loop.address) as to_loop:
        pushes = [
            asyncio.ensure_future(hang(calls, of_type))
            for calls, of_type in ((to_thread, "Thread"), (to_loop, "Loop"))
        ]
        await until(lambda: said(thread, "stuck now"), "a call hangs")
        await until(lambda: said(loop, "stuck now"), "a call hangs")
        began = time.monotonic()
        for broker in (thread, close, loop):
            broker.send_signal(signal.SIGTERM)
        # The loop of this one takes no signals any more: it ends all the same.
        loop.send_signal(signal.SIGINT)
        # Of two that are there at the same time either may be taken for the second.
        either = (128 + signal.SIGTERM, 128 + signal.SIGINT)
        assert await asyncio.to_thread(loop.wait) in either
        assert time.monotonic() - began < LAST_SECONDS + TELLING + SLACK
        for broker in (thread, close):
            assert await asyncio.to_thread(broker.wait) == ExitCode.CUT_OFF
            assert time.monotonic() - began < 0.1 + GRACE + TELLING + SLACK
        await asyncio.gather(*pushes)
    for broker in (thread, close, loop):
        assert "something hangs" in broker.log
        assert not (broker.folder / "broker.address").exists()
    assert "time.sleep(3600)" in loop.log  # where it hangs


async def hang(calls: Calls, of_type: str) -> None:
    request = PushRequest(jobs=[Job(queue="q", type=of_type)])
    with pytest.raises(grpc.aio.AioRpcError):
        await calls.queue.Push(request)


async def said(broker: BrokerProcess, words: str) -> bool:
    return words in broker.output + broker.log


async def test_a_start_that_hangs_is_ended_too(hanging: dict[str, str], tmp_path: Path) -> None:
    options = ["--store", "hanging:open", "--listen", "127.0.0.1:0"]
    process = start_command(options, tmp_path, hanging)
    try:

        async def opens() -> bool:
            return "stuck now" in (tmp_path / "broker.out").read_text()

        await until(opens, "the store is being opened")
        process.terminate()
        code = await asyncio.to_thread(process.wait, LAST_SECONDS + TELLING + SLACK)
    finally:
        process.kill()
        process.wait()
    assert code == ExitCode.CUT_OFF


def test_a_defect_has_an_exit_code_of_its_own(hanging: dict[str, str], tmp_path: Path) -> None:
    options = ("--store", "hanging:defect", "--listen", "127.0.0.1:0")
    code, said = failed_start(options, tmp_path, hanging)
    assert code == ExitCode.UNEXPECTED
    assert "unexpected end" in said


LOOP_THAT_HANGS = """
import asyncio, time
from towline_broker.server.life.stopping import Stopping

async def main():
    stopping = Stopping(60.0)
    stopping.end_if_loop_hangs(1)
    await asyncio.sleep(2.5)
    print("hangs now", flush=True)
    time.sleep(3600)

asyncio.run(main())
"""


def test_one_whose_loop_is_watched_ends_when_that_hangs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOP_THAT_HANGS], capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "hangs now\n"
    assert done.returncode == ExitCode.UNEXPECTED
    assert "in main" in done.stderr  # where it hangs
