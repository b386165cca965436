"""Several broker processes on one address.

Their store is jobs in memory that says of itself that brokers may share it: what becomes of the
processes is at stake here, not of the jobs.
"""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.support.broker_process import BrokerProcess, failed_start
from tests.support.calls import calls_to
from tests.support.third_party import install
from tests.support.waiting import until
from towline.v1.admin_service_pb2 import StatsRequest
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushRequest
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.exits import ExitCode
from towline_broker.server.life.processes import Group, Member, run_processes
from towline_broker.server.life.stopping import GRACE, TELLING, Stopping

#: Each pushed job of the type "Hang" is never done with; "Refuse" in the url refuses the store.
SHARED_STORE = """
import asyncio
import os
import time
from msgspec.structs import replace
from pathlib import Path
from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.memory import open_memory

def open_store(url):
    driver = open_memory("memory:")
    open_, push = driver.open, driver.push
    async def open_once(now, listener):
        if "refused" in url and Path("refused").exists():
            raise StoreRefused("this store is not for you")
        await open_(now, listener)
        return time.time_ns() // 1_000
    async def hanging_push(batch):
        if any(job.type == "Hang" for job in batch.jobs):
            print("hanging", flush=True)
            await asyncio.sleep(3600)
        return await push(batch)
    class Shared:
        capabilities = replace(driver.capabilities, shared=True)
        open = staticmethod(open_once)
        push = staticmethod(hanging_push)
        def __getattr__(self, name):
            return getattr(driver, name)
    return Shared()
"""


@pytest.fixture
def shared(tmp_path: Path) -> dict[str, str]:
    """The environment in which there is a store shared:"""
    return install(tmp_path, "shared", SHARED_STORE)


@pytest.fixture
def broker(shared: dict[str, str]) -> Iterator[BrokerProcess]:
    with BrokerProcess("shared:", "--processes", "3", environment=shared) as broker:
        yield broker


async def gone(pids: set[int]) -> bool:
    return not any(map(runs, pids))


def runs(pid: int) -> bool:
    try:
        # A zombie has ended, and was not yet asked how by whoever inherited it.
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def starts(address: str, connections: int = 50) -> set[str]:
    """When the processes started that answer at this address: it tells one from the other."""
    seen = set()
    for _ in range(connections):
        async with calls_to(address) as calls:
            answer = await calls.admin.Stats(StatsRequest(), timeout=10)
        seen.add(answer.broker.started_at.ToJsonString())
    return seen


async def test_they_serve_one_address_from_the_first_moment_on(broker: BrokerProcess) -> None:
    assert len(await starts(broker.address)) == 3
    assert len(broker.members) == 3
    assert broker.output.count("listening on") == 1
    assert "processes   3" in broker.output


async def test_one_that_is_killed_is_replaced_while_the_others_serve(broker: BrokerProcess) -> None:
    before, victim = broker.members, min(broker.members)
    os.kill(victim, signal.SIGKILL)

    # Its parent hears of its end when the last of its threads is gone, and with it its socket.
    async def told() -> bool:
        return f"broker process {victim} has ended with 137; another starts" in broker.log

    await until(told, "its end is told")
    await starts(broker.address, 10)
    await until(lambda: replaced(broker, before), "another process serves in its place")
    assert len(await starts(broker.address)) == 3


async def replaced(broker: BrokerProcess, before: set[int]) -> bool:
    new = broker.members - before
    return any(f"broker process {pid} serves in its place" in broker.log for pid in new)


async def test_a_signal_drains_all(broker: BrokerProcess) -> None:
    pids = broker.members
    broker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(broker.wait) == ExitCode.OK
    assert await gone(pids)
    for pid in pids:
        assert f"[{pid}] draining" in broker.log
        assert f"[{pid}] stopped" in broker.log
    assert not (broker.folder / "broker.address").exists()


async def test_ctrl_c_at_a_terminal_drains_all(broker: BrokerProcess) -> None:
    # A terminal sends the signal to its whole group of processes: each must hear it once only.
    assert {os.getpgid(pid) for pid in broker.members}.isdisjoint({os.getpgid(broker.pid)})
    broker.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(broker.wait) == ExitCode.OK


async def test_a_second_signal_stops_all_at_once(shared: dict[str, str]) -> None:
    options = ("--processes", "2", "--drain-timeout", "1h")
    with BrokerProcess("shared:", *options, environment=shared) as broker:
        pids = broker.members
        async with calls_to(broker.address) as calls:
            push = calls.queue.Push(PushRequest(jobs=[Job(queue="q", type="Hang")]))
            hanging = asyncio.ensure_future(push)
            await until(lambda: said(broker, "hanging"), "the call hangs")
            broker.send_signal(signal.SIGTERM)
            await until(lambda: said(broker, "draining"), "the broker drains")
            assert broker.returncode is None
            broker.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(broker.wait) == 128 + signal.SIGINT
            hanging.cancel()
            await asyncio.gather(hanging, return_exceptions=True)
        assert await gone(pids)


async def said(broker: BrokerProcess, words: str) -> bool:
    return words in broker.output + broker.log


async def test_one_that_hangs_is_killed_when_the_time_is_up(shared: dict[str, str]) -> None:
    options = ("--processes", "2", "--drain-timeout", "100ms")
    with BrokerProcess("shared:", *options, environment=shared) as broker:
        pids = broker.members
        stopped = min(pids)
        os.kill(stopped, signal.SIGSTOP)
        began = time.monotonic()
        broker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(broker.wait) == ExitCode.CUT_OFF
        assert time.monotonic() - began < 0.1 + GRACE + TELLING + 3.0
        assert f"broker process {stopped} does not end; killed" in broker.log
        assert await gone(pids)


async def test_none_outlives_the_one_that_started_them(broker: BrokerProcess) -> None:
    pids = broker.members
    broker.kill()
    await until(lambda: gone(pids), "all have ended")
    for pid in pids:
        assert f"[{pid}] the process that started this one is gone" in broker.log
        assert f"[{pid}] stopped" in broker.log
    await asyncio.to_thread(broker.start)
    assert len(await starts(broker.address)) == 3


def test_the_port_is_shared_with_nobody_else(
    broker: BrokerProcess, shared: dict[str, str], tmp_path: Path
) -> None:
    for processes in ("1", "2"):
        options = ("--store", "shared:", "--listen", broker.address, "--processes", processes)
        code, output = failed_start(options, tmp_path, shared)
        assert code == ExitCode.UNAVAILABLE
        assert "the port is in use" in output.splitlines()[-1]


@pytest.mark.parametrize("store", ["memory:", "sqlite:///jobs.db"])
def test_a_store_with_one_owner_is_refused(
    store: str, shared: dict[str, str], tmp_path: Path
) -> None:
    options = ("--listen", "127.0.0.1:0", "--processes", "2", "--ready-file", "ready")
    for stores in (["--store", store], ["--store", "shared:", "--store", f"other={store}"]):
        code, output = failed_start((*stores, *options), tmp_path, shared)
        assert code == ExitCode.CONFIG
        (line,) = output.splitlines()
        name = "other" if len(stores) > 2 else "default"
        assert f"processes: 2 are asked for, but store {name} ({store})" in line
        assert "postgresql://" in line
        assert not (tmp_path / "ready").exists()
        (tmp_path / "broker.err").unlink()


def test_all_end_if_the_store_is_refused_at_the_start(
    shared: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "refused").touch()
    options = ("--store", "shared:refused", "--listen", "127.0.0.1:0", "--processes", "2")
    code, output = failed_start(options, tmp_path, shared)
    assert code == ExitCode.STORE_REFUSED
    assert output == "towline-broker: store: this store is not for you\n"


async def test_a_replacement_that_cannot_start_is_tried_again(
    shared: dict[str, str], tmp_path: Path
) -> None:
    options = ("--processes", "2")
    with BrokerProcess("shared:refused", *options, folder=tmp_path, environment=shared) as broker:
        before, victim = broker.members, min(broker.members)
        (tmp_path / "refused").touch()
        os.kill(victim, signal.SIGKILL)
        await until(lambda: said(broker, "has ended with 66; another starts"), "it is refused")
        assert broker.returncode is None
        assert len(await starts(broker.address, 10)) == 1
        (tmp_path / "refused").unlink()
        await until(lambda: replaced(broker, before), "another process serves in its place")
        assert broker.stop() == ExitCode.OK


class Ended(Member):
    """One that has served for long, and has ended."""

    def __init__(self) -> None:
        self.number = 0
        self.started = time.monotonic() - 3_600

    @property
    def pid(self) -> int:
        return 1

    async def ended(self) -> int:
        return 70


async def test_a_machine_that_cannot_start_another_is_asked_ever_less_often(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(settings: Settings, number: int) -> Member:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(Member, "start", refuse)
    group = Group(Settings(store="memory:"), Stopping(60.0))
    keeping = asyncio.create_task(group._keep(Ended()))

    def waits() -> list[str]:
        return re.findall(r"has ended with 70; another starts in (\S+) s", caplog.text)

    async def some_tries() -> bool:
        return len(waits()) >= 4

    await until(some_tries, "it is tried again")
    keeping.cancel()
    assert waits()[:4] == ["0.1", "0.2", "0.4", "0.8"]
    assert caplog.text.count("another broker process cannot be started") == 3


def test_a_system_that_does_not_spread_connections_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert run_processes(Settings(store="memory:", processes=2)) == ExitCode.CONFIG
    assert "brokers on ports of their own" in capsys.readouterr().err
