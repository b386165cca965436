"""One SQS for all tests of this folder; a new, empty store for each test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.sqs_server import SqsServer, running_sqs
from tests.support.sqs_store import SqsHarness, SqsStore


@pytest.fixture(scope="session")
def sqs() -> Iterator[SqsServer]:
    with running_sqs() as server:
        yield server


@pytest.fixture
def url(sqs: SqsServer) -> str:
    return sqs.new_url()


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqsStore]:
    store = SqsStore(SqsHarness(url))
    await store.open()
    yield store
    await store.close()
