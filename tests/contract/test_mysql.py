"""The SQL driver keeps the contract over MariaDB."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.archive.support import (
    export_of_everything,
    goes_in_and_comes_out,
    is_found_by_check,
)
from tests.support.servers.mariadb import MariaDBServer
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import create_driver
from towline_broker.testing import Harness, NewHarness, SharedDriverContract, check_at_random

_OF_THE_VERSION = ("towline_meta", "towline_alembic_version")


class MySQLHarness(Harness):
    persists = True

    def __init__(self, url: str) -> None:
        self.url = url

    def driver(self) -> Driver:
        return create_driver(self.url)


class Databases:
    """Making the tables takes longer than most tests: they are used again, emptied."""

    def __init__(self, server: MariaDBServer) -> None:
        self._server = server
        self._free: list[str] = []

    def take(self) -> str:
        return self._free.pop() if self._free else self._server.create_database()

    def execute(self, sql: str, url: str) -> None:
        self._server.execute(sql, url.partition("?")[0])

    def give_back(self, url: str) -> None:
        # None if nothing was opened there.
        tables = self._server.execute("SHOW TABLES", url).split()
        emptied = [f"DELETE FROM {name};" for name in tables if name not in _OF_THE_VERSION]
        self._server.execute("".join(emptied), url)
        self._free.append(url)


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    with MariaDBServer() as server:
        yield Databases(server)


@pytest.fixture
def new_database(databases: Databases) -> Iterator[Callable[[], str]]:
    """Makes stores for one test."""
    made: list[str] = []

    def make() -> str:
        made.append(databases.take())
        return f"{made[-1]}?lanes=2&readers=1"

    yield make
    for url in made:
        databases.give_back(url)


class TestMariaDB(SharedDriverContract):
    @pytest.fixture
    def new_harness(self, new_database: Callable[[], str]) -> NewHarness:
        return lambda: MySQLHarness(new_database())


@pytest.mark.timeout(600)
def test_random_operations_are_answered_as_the_model_does(
    new_database: Callable[[], str],
) -> None:
    examples = int(os.environ.get("TOWLINE_EXAMPLES", "25"))
    check_at_random(lambda: MySQLHarness(new_database()), examples=examples)


def test_p6_everything_goes_in_and_out_of_archives_and_a_check_sees_what_is_wrong(
    databases: Databases, new_database: Callable[[], str], tmp_path: Path
) -> None:
    exported = export_of_everything(f"sqlite:///{tmp_path}/jobs.db", tmp_path)
    url = new_database()
    goes_in_and_comes_out(exported, url)
    databases.execute("UPDATE towline_counters SET ready = ready + 2", url)
    databases.execute("DELETE FROM towline_notes", url)
    is_found_by_check(url, "ready by the counts, and", "have lost their last failure and progress")
