from collections.abc import AsyncIterator, Iterator

import pytest

from tests.sdk.scripted_broker import ScriptedBroker, scripted_broker
from towline import AsyncClient, Client


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    with scripted_broker() as broker:
        yield broker


@pytest.fixture
def client(broker: ScriptedBroker) -> Iterator[Client]:
    with Client(broker.address) as client:
        yield client


@pytest.fixture
async def async_client(broker: ScriptedBroker) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(broker.address) as client:
        yield client
