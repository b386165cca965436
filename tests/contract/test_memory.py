"""The memory driver keeps the contract."""

import pytest

from towline_broker.drivers.interface import Driver
from towline_broker.drivers.memory import open_memory
from towline_broker.testing import (
    BoundedDriverContract,
    DriverContract,
    Harness,
    NewHarness,
    check_at_random,
)


class MemoryHarness(Harness):
    def __init__(self, url: str = "memory:") -> None:
        self.url = url

    def driver(self) -> Driver:
        return open_memory(self.url)


class TestMemory(DriverContract):
    @pytest.fixture
    def new_harness(self) -> NewHarness:
        return MemoryHarness


class TestSmallMemory(BoundedDriverContract):
    @pytest.fixture
    def new_harness(self) -> NewHarness:
        return lambda: MemoryHarness("memory:?max_bytes=200000")


@pytest.mark.timeout(600)
def test_random_operations_are_answered_as_the_model_does() -> None:
    check_at_random(MemoryHarness)
