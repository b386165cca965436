"""A broker that starts before its store waits for it, and says so; a store that refuses ends it at
once."""

import asyncio
import logging
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.support.broker_process import start_command
from tests.support.pages import blocks
from tests.support.servers.ports import free_port
from tests.support.servers.redis import RedisServer
from tests.support.waiting import until
from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.telemetry_settings import TelemetrySettings
from towline_broker.server.exits import ExitCode
from towline_broker.server.life.starting import start_broker

PASSWORD = "hunter2-of-the-store"
USER = f"user towline on >{PASSWORD} ~* &* +@all"


def settings(url: str, wait: object) -> Settings:
    return Settings(store=url, listen="127.0.0.1:0", wait_for_store=wait)


async def test_it_serves_once_its_store_answers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "towline.broker")
    server = RedisServer("redis", USER)
    url = f"redis://towline:{PASSWORD}@{server.address}/0"
    starting = asyncio.ensure_future(start_broker(settings(url, "60s")))
    try:

        async def waits() -> bool:
            return bool(caplog.messages)

        await until(waits, "it waits")
        assert not starting.done()
        server.launch()
        broker = await starting
        await broker.stop()
    finally:
        starting.cancel()
        server.__exit__()
    first = caplog.messages[0]
    (shown,) = blocks("docs/operations.md", "text")
    said, told, _ = shown.removeprefix("WARNING ").strip().partition(" postgresql://")
    assert told
    assert first.startswith(said.replace("30 s", "60 s"))
    assert server.address in first
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("wait", ["0s", "1s"])
async def test_it_gives_up_when_the_time_is_over(
    wait: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "towline.broker")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await start_broker(settings(f"redis://127.0.0.1:{free_port()}/0", wait))
    assert wait == "0s" or time.monotonic() - began >= 1
    assert bool(caplog.messages) == (wait == "1s")


async def test_tries_do_not_pile_up() -> None:
    """What sends spans has a thread of its own, and there may be hours of tries."""
    before = set(threading.enumerate())
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    tracing = settings(nobody, "300ms").model_copy(
        update={"telemetry": TelemetrySettings(traces="otlp")}
    )
    with pytest.raises(StoreUnavailable):
        await start_broker(tracing)

    async def ended() -> bool:
        left = set(threading.enumerate()) - before
        return not any("Span" in each.name for each in left)

    # A last sending that takes long is not waited for; it ends by itself.
    await until(ended, "their threads have ended", seconds=60)


async def test_a_store_that_refuses_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer("redis", USER) as server, pytest.raises(StoreRefused):
        await start_broker(settings(f"redis://towline:wrong@{server.address}/0", "60s"))
    assert "waiting" not in caplog.text


async def test_a_signal_ends_the_waiting(tmp_path: Path) -> None:
    store = f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0"
    options = ["--store", store, "--listen", "127.0.0.1:0", "--wait-for-store", "1h"]
    process = start_command(options, tmp_path)
    log = tmp_path / "broker.err"
    try:

        async def waits() -> bool:
            return "waiting for the store, for 3600 s at most" in log.read_text()

        await until(waits, "it waits")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 10) == ExitCode.OK
    finally:
        process.kill()
        process.wait()
    assert "stopped before it served" in log.read_text()
    assert PASSWORD not in log.read_text()


async def test_the_exit_code_says_that_the_store_was_not_there(tmp_path: Path) -> None:
    store = f"postgresql://towline:{PASSWORD}@127.0.0.1:{free_port()}/jobs"
    options = ["--store", store, "--listen", "127.0.0.1:0", "--wait-for-store", "200ms"]
    process = start_command(options, tmp_path)
    try:
        assert await asyncio.to_thread(process.wait, 20) == ExitCode.UNAVAILABLE
    finally:
        process.kill()
        process.wait()
    *waits, last = (tmp_path / "broker.err").read_text().splitlines()
    assert any("waiting for the store" in line for line in waits)
    assert last.startswith("towline-broker: store: postgresql://")
    assert PASSWORD not in (tmp_path / "broker.err").read_text()
