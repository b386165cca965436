"""A broker that knows tokens."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.access.senders import Tokens
from tests.support.calls import Calls, calls_to
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import BrokerServer, running_broker


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.make("first", push=["*"], work=["*"], admin=["*"])
    return tokens


@pytest.fixture
async def server(tokens: Tokens) -> AsyncIterator[BrokerServer]:
    settings = Settings(store="memory:", listen="127.0.0.1:0", auth={"tokens": tokens.path})
    async with running_broker(settings) as server:
        yield server


@pytest.fixture
async def calls(server: BrokerServer) -> AsyncIterator[Calls]:
    async with calls_to(str(server.address)) as calls:
        yield calls
