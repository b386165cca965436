"""Stores in files of one broker, and what a crash leaves of them."""

from abc import abstractmethod
from pathlib import Path

from towline_broker.drivers.interface import Driver
from towline_broker.testing import Harness


class CopiedFilesHarness(Harness):
    """At a crash the files as they are, without what closing would do to them, are copied to a new
    place, and opened there."""

    persists = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lives = 1
        self.place = folder / "1"

    async def crash(self, driver: Driver) -> None:
        self._lives += 1
        left, self.place = self.place, self._folder / str(self._lives)
        await self.copy(driver, left)
        await driver.close()

    @abstractmethod
    async def copy(self, driver: Driver, left: Path) -> None:
        """Makes ``place``, with the files of the driver, which are in ``left``."""
