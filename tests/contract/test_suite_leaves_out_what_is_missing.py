"""A driver that declares what it cannot do is held to the rest of the contract, and to no less."""

import asyncio
import inspect

import pytest

from tests.contract.limited_memory import LimitedHarness
from towline_broker.drivers.interface import Feature
from towline_broker.testing import DriverContract, Store, check_at_random
from towline_broker.testing.features import skip_unless_offered

#: Without these the random operations cannot see what they have done.
SIGHT = {Feature.LISTING, Feature.LOOKUP}


async def left_out_for(name: str, missing: Feature) -> str | None:
    """Why the test is skipped; raises if it fails."""
    test = getattr(DriverContract(), name)
    store = Store(LimitedHarness(missing))
    try:
        await store.open()
        skip_unless_offered(test, store.driver)
        store.skip_what_is_missing()
        other = store.beside(LimitedHarness(missing))
        await other.open()
        fixtures = {"store": store, "other": other}
        await test(*(fixtures[parameter] for parameter in inspect.signature(test).parameters))
    except pytest.skip.Exception as skipped:
        return skipped.msg
    return None


@pytest.mark.parametrize("missing", Feature)
def test_only_tests_of_what_is_missing_are_left_out(missing: Feature) -> None:
    names = [name for name in dir(DriverContract) if name.startswith("test_")]
    reasons = [asyncio.run(left_out_for(name, missing)) for name in names]
    assert set(reasons) == {None, f"this store declares that it has no {missing.value}"}


@pytest.mark.parametrize("missing", sorted(set(Feature) - SIGHT))
@pytest.mark.timeout(600)
def test_random_operations_keep_to_what_is_offered(missing: Feature) -> None:
    check_at_random(lambda: LimitedHarness(missing), examples=10)
