"""systemd is told of the life of a broker that it started, as sd_notify(3) says."""

import asyncio
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker_process import BrokerProcess
from tests.support.waiting import until
from towline_broker.server.exits import ExitCode
from towline_broker.server.life.systemd import Systemd


class Heard:
    """What comes to a socket as systemd has one."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.datagrams: list[list[str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)

    def close(self) -> None:
        self._socket.close()

    async def has(self, line: str) -> bool:
        return any(line in lines for lines in self.all())

    def all(self) -> list[list[str]]:
        while True:
            try:
                self.datagrams.append(self._socket.recv(65536).decode().splitlines())
            except BlockingIOError:
                return self.datagrams

    def count(self, line: str) -> int:
        return sum(line in lines for lines in self.all())


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Heard]:
    abstract = f"@towline-{uuid.uuid4()}"
    heard = Heard(str(tmp_path / "notify") if request.param == "path" else abstract)
    yield heard
    heard.close()


@pytest.mark.parametrize("systemd", ["abstract"], indirect=True)
async def test_a_broker_tells_that_it_serves_lives_and_ends(systemd: Heard) -> None:
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "100000"}
    options = ("--drain-timeout", "7s", "--wait-for-store", "8s")
    with BrokerProcess("memory:", *options, environment=environment) as broker:
        ready = ["READY=1", f"STATUS=serving on {broker.address}"]
        await until(lambda: systemd.has(ready[0]), "it is told that it serves")
        assert ready in systemd.all()
        told = [lines for lines in systemd.all() if lines != ["WATCHDOG=1"]]
        assert told[0] == ["STATUS=starting", "EXTEND_TIMEOUT_USEC=68000000"]
        seen = systemd.count("WATCHDOG=1")

        async def lives() -> bool:
            return systemd.count("WATCHDOG=1") > seen + 3

        await until(lives, "it is told that it lives")
        broker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(broker.wait) == ExitCode.OK
        assert ["STOPPING=1", "STATUS=draining", "EXTEND_TIMEOUT_USEC=13000000"] in systemd.all()


async def test_a_reload_is_told_with_its_time(systemd: Heard) -> None:
    broker = Systemd(systemd.address)
    broker.serving("serving on 127.0.0.1:7480")
    before = time.monotonic_ns() // 1_000
    with broker.reloading():
        (reloading,) = systemd.all()[1:]
    assert reloading[0] == "RELOADING=1"
    name, _, moment = reloading[1].partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(moment) <= time.monotonic_ns() // 1_000
    assert systemd.all()[-1] == ["READY=1", "STATUS=serving on 127.0.0.1:7480"]


@pytest.mark.parametrize("systemd", ["path"], indirect=True)
async def test_a_loop_that_hangs_is_silent(systemd: Heard) -> None:
    broker = Systemd(systemd.address, watchdog=0.05)
    async with broker.told(asyncio.Event(), start_seconds=1, stop_seconds=1):
        await until(lambda: systemd.has("WATCHDOG=1"), "it is told that the loop runs")
        before = systemd.count("WATCHDOG=1")
        time.sleep(0.3)  # noqa: ASYNC251 -- the loop is to hang
        assert systemd.count("WATCHDOG=1") == before


def test_processes_that_a_broker_starts_do_not_speak_for_it() -> None:
    environment = {
        "NOTIFY_SOCKET": "@x",
        "WATCHDOG_USEC": "1000000",
        "WATCHDOG_PID": str(os.getpid()),
        "OTHER": "stays",
    }
    Systemd.from_environment(environment)
    assert environment == {"OTHER": "stays"}


@pytest.mark.parametrize(("watched", "expected"), [("", 1), ("of this process", 1), ("1", 0)])
async def test_the_watchdog_is_that_of_this_process_only(
    watched: str, expected: int, tmp_path: Path
) -> None:
    heard = Heard(str(tmp_path / "notify"))
    environment = {"NOTIFY_SOCKET": heard.address, "WATCHDOG_USEC": "60000000"}
    if watched:
        environment["WATCHDOG_PID"] = watched if watched == "1" else str(os.getpid())
    async with Systemd.from_environment(environment).told(
        asyncio.Event(), start_seconds=1, stop_seconds=1
    ):
        await asyncio.sleep(0)
        assert heard.count("WATCHDOG=1") == expected
    heard.close()


def test_nobody_who_hears_is_no_reason_to_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Systemd().serving("serving")
    assert caplog.messages == []
    Systemd(str(tmp_path / "gone")).serving("serving")
    (warning,) = caplog.messages
    assert "systemd cannot be told READY=1" in warning
