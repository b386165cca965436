"""The SQL driver keeps the contract over PostgreSQL."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.servers.fixtures import postgres_server
from tests.support.servers.postgres import PostgresServer
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import create_driver
from towline_broker.testing import Harness, NewHarness, SharedDriverContract, check_at_random

__all__ = ["postgres_server"]


class PostgresHarness(Harness):
    persists = True

    def __init__(self, url: str) -> None:
        self.url = url

    def driver(self) -> Driver:
        return create_driver(self.url)


@pytest.fixture
def new_database(postgres_server: PostgresServer) -> Iterator[Callable[[], str]]:
    """Makes databases for one test."""
    made: list[str] = []

    def make() -> str:
        made.append(postgres_server.create_database())
        return made[-1]

    yield make
    for url in made:
        postgres_server.drop_database(url)


class TestPostgres(SharedDriverContract):
    @pytest.fixture
    def new_harness(self, new_database: Callable[[], str]) -> NewHarness:
        return lambda: PostgresHarness(new_database())


def test_random_operations_are_answered_as_the_model_does(
    new_database: Callable[[], str],
) -> None:
    check_at_random(lambda: PostgresHarness(new_database()), examples=25)
