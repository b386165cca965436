"""One SQS for all tests of this folder; a new, empty store for each test."""

from collections.abc import Iterator

import pytest

from tests.support.sqs_server import SqsServer, running_sqs


@pytest.fixture(scope="session")
def sqs() -> Iterator[SqsServer]:
    with running_sqs() as server:
        yield server


@pytest.fixture
def url(sqs: SqsServer) -> str:
    return sqs.new_url()
