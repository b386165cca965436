"""The file driver keeps the contract, also over a disk that is full soon."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.contract.copied_files import CopiedFilesHarness
from towline_broker.drivers.file import FileDriver
from towline_broker.drivers.file.url import FileUrl
from towline_broker.drivers.interface import Driver
from towline_broker.testing import (
    BoundedDriverContract,
    DurableDriverContract,
    NewHarness,
    check_at_random,
)

#: Small, so that segments end and are given up all the time.
SEGMENT_BYTES = 64 * 1024
MEMORY = 1 << 30


class FileHarness(CopiedFilesHarness):
    def driver(self) -> Driver:
        return FileDriver(FileUrl(self.place, 0, SEGMENT_BYTES, MEMORY))

    async def copy(self, driver: Driver, left: Path) -> None:
        assert isinstance(driver, FileDriver)
        if driver._opened is not None:
            # On the thread that writes, so that all files are of one moment.
            copy = partial(shutil.copytree, left, self.place)
            await driver._opened.journal._writer.run(copy)
        else:
            shutil.copytree(left, self.place)


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


@pytest.mark.timeout(600)
def test_random_operations_are_answered_as_the_model_does(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    check_at_random(lambda: FileHarness(tmp_path_factory.mktemp("store")), examples=25)
