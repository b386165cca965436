"""A broker in this process over each embedded store, and stubs that call it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.core.manual_clock import ManualClock
from tests.support.calls import Calls, calls_to
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import BrokerServer, running_broker


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
