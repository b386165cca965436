"""The file driver keeps the contract, also over a disk that is full soon."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from towline_broker.drivers.file import FileDriver
from towline_broker.drivers.file.url import FileUrl
from towline_broker.drivers.interface import Driver
from towline_broker.testing import (
    BoundedDriverContract,
    DurableDriverContract,
    Harness,
    NewHarness,
    check_at_random,
)

#: Small, so that segments end and are given up all the time.
SEGMENT_BYTES = 64 * 1024
MEMORY = 1 << 30


class FileHarness(Harness):
    persists = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives = 0
        self.place = self._next_place()

    def _next_place(self) -> Path:
        self.lives += 1
        return self.folder / str(self.lives)

    def driver(self) -> Driver:
        return FileDriver(FileUrl(self.place, 0, SEGMENT_BYTES, MEMORY))

    async def crash(self, driver: Driver) -> None:
        """The files as they are now, without what closing would do to them, are opened next."""
        assert isinstance(driver, FileDriver)
        left, self.place = self.place, self._next_place()
        if driver._opened is not None:
            # On the thread that writes, so that all files are of one moment.
            copy = partial(shutil.copytree, left, self.place)
            await driver._opened.journal._writer.run(copy)
        else:
            shutil.copytree(left, self.place)
        await driver.close()


class FullDiskHarness(FileHarness):
    """A disk on which the store may have a few segments and no more."""

    def driver(self) -> Driver:
        def free(directory: Path) -> int:
            return 10 * SEGMENT_BYTES - sum(file.stat().st_size for file in directory.iterdir())

        return FileDriver(FileUrl(self.place, 0, SEGMENT_BYTES, MEMORY), free)


class TestFile(DurableDriverContract):
    @pytest.fixture
    def new_harness(self, tmp_path_factory: pytest.TempPathFactory) -> NewHarness:
        return lambda: FileHarness(tmp_path_factory.mktemp("store"))


class TestFullDisk(BoundedDriverContract):
    @pytest.fixture
    def new_harness(self, tmp_path_factory: pytest.TempPathFactory) -> NewHarness:
        return lambda: FullDiskHarness(tmp_path_factory.mktemp("store"))


def test_random_operations_are_answered_as_the_model_does(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    check_at_random(lambda: FileHarness(tmp_path_factory.mktemp("store")), examples=25)
