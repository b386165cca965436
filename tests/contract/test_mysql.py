"""The SQL driver keeps the contract over MariaDB."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.support.servers.mariadb import MariaDBServer
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import create_driver
from towline_broker.testing import Harness, NewHarness, SharedDriverContract, check_at_random


class MySQLHarness(Harness):
    persists = True

    def __init__(self, url: str) -> None:
        self.url = url

    def driver(self) -> Driver:
        return create_driver(self.url)


@pytest.fixture(scope="module")
def mariadb_server() -> Iterator[MariaDBServer]:
    with MariaDBServer() as server:
        yield server


@pytest.fixture
def new_database(mariadb_server: MariaDBServer) -> Iterator[Callable[[], str]]:
    """Makes stores for one test."""
    made: list[str] = []

    def make() -> str:
        made.append(mariadb_server.create_database())
        return f"{made[-1]}?lanes=2&readers=1"

    yield make
    for url in made:
        mariadb_server.drop_database(url)


class TestMariaDB(SharedDriverContract):
    @pytest.fixture
    def new_harness(self, new_database: Callable[[], str]) -> NewHarness:
        return lambda: MySQLHarness(new_database())


def test_random_operations_are_answered_as_the_model_does(
    new_database: Callable[[], str],
) -> None:
    examples = int(os.environ.get("TOWLINE_EXAMPLES", "25"))
    check_at_random(lambda: MySQLHarness(new_database()), examples=examples)
