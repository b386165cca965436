"""The shelf keeps the contract: the suite that comes with the broker says so."""

import shutil
from pathlib import Path

import pytest

from towline_broker.domain.errors import NotSupported
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import create_driver
from towline_broker.testing import (
    DurableDriverContract,
    Harness,
    NewHarness,
    Store,
    check_at_random,
    new_job,
)


class ShelfHarness(Harness):
    """One store, and the drivers that open it one after the other."""

    persists = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives = 0

    @property
    def file(self) -> Path:
        return self.folder / f"{self.lives}.shelf"

    def move_on(self) -> None:
        """To a copy of what is in the file at this moment."""
        left = self.file
        self.lives += 1
        for suffix in ("", "-journal"):
            if Path(f"{left}{suffix}").exists():
                shutil.copy(f"{left}{suffix}", f"{self.file}{suffix}")

    def driver(self) -> Driver:
        return create_driver(f"shelf://{self.file}")

    async def crash(self, driver: Driver) -> None:
        """Nothing that closing might do reaches the file that is opened next."""
        self.move_on()
        await driver.close()


class TestShelf(DurableDriverContract):
    @pytest.fixture
    def new_harness(self, tmp_path_factory: pytest.TempPathFactory) -> NewHarness:
        return lambda: ShelfHarness(tmp_path_factory.mktemp("shelf"))

    # A test of the suite that cannot hold is overridden by its name, with the reason and with what
    # holds instead: this one pushes a job of a megabyte, and the store declares a lower bound.
    async def test_p1_any_bytes_come_back_as_they_were(self, store: Store) -> None:
        most = store.driver.capabilities.max_envelope
        assert most is not None
        envelopes = [b"", b"\x00", bytes(range(256)), b"\xff" * most]
        await store.create(*[new_job(envelope=envelope) for envelope in envelopes])
        await store.reopen()
        assert [leased.envelope for leased in await store.reserve(max_jobs=9)] == envelopes
        with pytest.raises(NotSupported):
            await store.push(new_job(envelope=b"\xff" * (most + 1)))


def test_random_operations_are_answered_as_the_model_does(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    check_at_random(lambda: ShelfHarness(tmp_path_factory.mktemp("shelf")), examples=10)
