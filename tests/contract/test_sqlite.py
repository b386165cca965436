"""The SQL driver keeps the contract over SQLite."""

import shutil
from pathlib import Path

import pytest

from tests.contract.copied_files import CopiedFilesHarness
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import create_driver
from towline_broker.testing import DurableDriverContract, NewHarness, check_at_random


class SqliteHarness(CopiedFilesHarness):
    def driver(self) -> Driver:
        self.place.mkdir(exist_ok=True)
        return create_driver(f"sqlite:///{self.place}/jobs.db")

    async def copy(self, driver: Driver, left: Path) -> None:
        shutil.copytree(left, self.place, ignore=shutil.ignore_patterns("*-shm"))


class TestSqlite(DurableDriverContract):
    @pytest.fixture
    def new_harness(self, tmp_path_factory: pytest.TempPathFactory) -> NewHarness:
        return lambda: SqliteHarness(tmp_path_factory.mktemp("store"))


@pytest.mark.timeout(600)
def test_random_operations_are_answered_as_the_model_does(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    check_at_random(lambda: SqliteHarness(tmp_path_factory.mktemp("store")), examples=25)
