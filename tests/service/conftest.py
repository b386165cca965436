"""A broker in this process over each embedded store, and stubs that call it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.core.manual_clock import ManualClock
from tests.support.calls import Calls, calls_to
from tests.support.settings import load_settings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import BrokerServer, running_broker


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where settings are looked for: neither a file of them nor ``.env`` is there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def load(empty_folder: Path) -> Callable[[str], Settings]:
    """The settings in a file with this text."""

    def load(text: str) -> Settings:
        file = empty_folder / "broker.toml"
        file.write_text(text)
        return load_settings({}, file)

    return load


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture
def clock() -> ManualClock | None:
    """For the broker to go by; None: its own."""
    return None


@pytest.fixture
async def server(store: str, clock: ManualClock | None) -> AsyncIterator[BrokerServer]:
    settings = Settings(store=store, listen="127.0.0.1:0")
    async with running_broker(settings, clock=clock) as server:
        yield server


@pytest.fixture
async def calls(server: BrokerServer) -> AsyncIterator[Calls]:
    async with calls_to(str(server.address)) as calls:
        yield calls
