"""A broker over the memory driver, with its clock in the test's hands."""

from collections.abc import AsyncIterator
from random import Random

import pytest

from tests.core.manual_clock import ManualClock
from towline_broker.core.broker import Broker
from towline_broker.core.settings import CoreSettings
from towline_broker.drivers.registry import create_driver


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def settings() -> CoreSettings:
    return CoreSettings()


@pytest.fixture
async def broker(clock: ManualClock, settings: CoreSettings) -> AsyncIterator[Broker]:
    broker = Broker(create_driver("memory:"), clock=clock, settings=settings, rng=Random(7))
    await broker.start()
    yield broker
    await broker.stop()
