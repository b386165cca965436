"""The SQL driver keeps the contract over PostgreSQL."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.archive.support import (
    export_of_everything,
    goes_in_and_comes_out,
    is_found_by_check,
    run,
)
from tests.support.servers.postgres import PostgresServer
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import create_driver
from towline_broker.testing import Harness, NewHarness, SharedDriverContract, check_at_random

_numbers = count(1)


class PostgresHarness(Harness):
    persists = True

    def __init__(self, url: str) -> None:
        self.url = url

    def driver(self) -> Driver:
        return create_driver(self.url)


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[PostgresServer]:
    with PostgresServer(durable=True) as server:
        yield server


@pytest.fixture
def new_schema(postgres_server: PostgresServer) -> Iterator[Callable[[], str]]:
    """Makes stores for one test: schemas of one database, which are made faster than databases."""
    made: list[str] = []

    def make() -> str:
        made.append(f"store_{next(_numbers)}")
        postgres_server.execute(f"CREATE SCHEMA {made[-1]}")
        return f"{postgres_server.url}?search_path={made[-1]}&lanes=2&readers=1"

    yield make
    for name in made:  # each by itself: together they would need more locks than a server has
        postgres_server.execute(f"DROP SCHEMA {name} CASCADE")


class TestPostgres(SharedDriverContract):
    @pytest.fixture
    def new_harness(self, new_schema: Callable[[], str]) -> NewHarness:
        return lambda: PostgresHarness(new_schema())


@pytest.mark.timeout(600)
def test_random_operations_are_answered_as_the_model_does(
    new_schema: Callable[[], str],
) -> None:
    check_at_random(lambda: PostgresHarness(new_schema()), examples=25)


def test_p6_everything_goes_in_and_out_of_archives_and_a_check_sees_what_is_wrong(
    postgres_server: PostgresServer, new_schema: Callable[[], str], tmp_path: Path
) -> None:
    exported = export_of_everything(f"sqlite:///{tmp_path}/jobs.db", tmp_path)
    url = new_schema()
    missing = run("check", "--store", url, code=66).stderr
    assert "holds no store" in missing
    goes_in_and_comes_out(exported, url)
    schema = url.partition("search_path=")[2].partition("&")[0]
    postgres_server.execute(
        f"UPDATE {schema}.towline_counters SET ready = ready + 2;"
        f"DELETE FROM {schema}.towline_notes;"
    )
    is_found_by_check(url, "ready by the counts, and", "have lost their last failure and progress")
