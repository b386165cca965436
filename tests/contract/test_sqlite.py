"""The SQL driver keeps the contract over SQLite."""

import shutil
from pathlib import Path

import pytest

from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import create_driver
from towline_broker.testing import DurableDriverContract, Harness, NewHarness, check_at_random


class SqliteHarness(Harness):
    persists = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives = 0
        self.place = self._next_place()

    def _next_place(self) -> Path:
        self.lives += 1
        place = self.folder / str(self.lives)
        place.mkdir()
        return place

    def driver(self) -> Driver:
        return create_driver(f"sqlite:///{self.place}/jobs.db")

    async def crash(self, driver: Driver) -> None:
        """The files as they are now, without what closing would do to them, are opened next."""
        left, self.place = self.place, self._next_place()
        for file in left.glob("jobs.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, self.place)
        await driver.close()


class TestSqlite(DurableDriverContract):
    @pytest.fixture
    def new_harness(self, tmp_path_factory: pytest.TempPathFactory) -> NewHarness:
        return lambda: SqliteHarness(tmp_path_factory.mktemp("store"))


def test_random_operations_are_answered_as_the_model_does(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    check_at_random(lambda: SqliteHarness(tmp_path_factory.mktemp("store")), examples=25)
