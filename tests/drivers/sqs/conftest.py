"""One SQS for all tests of this folder; a new, empty store for each test."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.sqs_server import SqsServer, running_sqs
from tests.support.sqs_store import SqsHarness, SqsStore
from towline_broker.drivers.sqs.connection import Connection


@pytest.fixture(scope="session")
def sqs() -> Iterator[SqsServer]:
    with running_sqs() as server:
        yield server


@pytest.fixture
def url(sqs: SqsServer) -> str:
    return sqs.new_url()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Every call of SQS from here on: the operation, and its arguments."""
    real = Connection._call
    calls: list[tuple[str, dict[str, Any]]] = []

    async def call(
        self: Connection, client: Any, operation: str, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        calls.append((operation, arguments))
        return await real(self, client, operation, arguments)

    monkeypatch.setattr(Connection, "_call", call)
    return calls


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqsStore]:
    store = SqsStore(SqsHarness(url))
    await store.open()
    yield store
    await store.close()
