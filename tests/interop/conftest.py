"""A broker process for each module of these tests and each embedded store."""

import uuid
from collections.abc import Iterator

import pytest

from tests.support.broker_process import BrokerProcess


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest) -> str:
    """The name of the driver."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def address(store: str) -> Iterator[str]:
    """``HOST:PORT`` of a broker that runs for as long as the module's tests over one store."""
    url = {"memory": "memory:", "sqlite": "sqlite:///towline.db"}[store]
    with BrokerProcess(url) as broker:
        yield broker.address


@pytest.fixture
def queue() -> str:
    """A queue that no other test has."""
    return f"interop-{uuid.uuid4()}"
