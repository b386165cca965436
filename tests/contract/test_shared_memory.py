"""The contract of shared stores can be kept, shown on a store in memory that drivers share."""

import pytest

from tests.contract.shared_memory import SharedHarness
from towline_broker.testing import NewHarness, SharedDriverContract


class TestSharedMemory(SharedDriverContract):
    @pytest.fixture
    def new_harness(self) -> NewHarness:
        return SharedHarness
