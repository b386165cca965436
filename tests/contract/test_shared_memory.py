"""The contract of shared stores can be kept, shown on a store in memory that drivers share."""

import pytest

from tests.contract.shared_memory import SharedHarness
from towline_broker.testing import NewHarness, SharedDriverContract, check_at_random


class TestSharedMemory(SharedDriverContract):
    @pytest.fixture
    def new_harness(self) -> NewHarness:
        return SharedHarness


@pytest.mark.timeout(600)
def test_random_operations_at_two_brokers_are_answered_as_the_model_does() -> None:
    check_at_random(SharedHarness, examples=50)
