"""The contract suite can fail: each bug planted in the memory engine is caught, and by name."""

import asyncio
import inspect
from collections.abc import Callable, Iterator

import pytest
from hypothesis import Phase

from tests.contract.planted_bugs import BUGS, Bug
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.memory import Engine, MemoryDriver
from towline_broker.testing import DriverContract, Harness, Store, check_at_random

#: Random examples that are played before a bug counts as overlooked.
EXAMPLES = 400


class SpoiledHarness(Harness):
    def __init__(self, plant: Callable[[Engine], None]) -> None:
        self.plant = plant

    def driver(self) -> Driver:
        engine = Engine()
        self.plant(engine)
        return MemoryDriver(engine)


def leave_as_it_is(engine: Engine) -> None:
    pass


def contract_tests() -> Iterator[str]:
    for name, _ in inspect.getmembers(DriverContract, inspect.iscoroutinefunction):
        if name.startswith("test_"):
            yield name


def failing_tests(plant: Callable[[Engine], None]) -> set[str]:
    """Runs every contract test, each on a new engine; the names of those that fail."""

    async def passes(name: str) -> bool:
        store = Store(SpoiledHarness(plant))
        await store.open()
        try:
            await getattr(DriverContract(), name)(store)
        except (Exception, pytest.fail.Exception):
            return False
        return True

    async def run() -> set[str]:
        return {name for name in contract_tests() if not await passes(name)}

    return asyncio.run(run())


def fails_at_random(plant: Callable[[Engine], None]) -> bool:
    try:
        check_at_random(
            lambda: SpoiledHarness(plant),
            examples=EXAMPLES,
            phases=[Phase.generate],
            database=None,
            derandomize=True,
            report_multiple_bugs=False,
            print_blob=False,
        )
    except Exception:
        return True
    return False


def test_the_sound_engine_passes() -> None:
    assert failing_tests(leave_as_it_is) == set()


def test_enough_bugs_are_planted() -> None:
    assert len(BUGS) >= 18
    assert {bug.caught_by for bug in BUGS} <= set(contract_tests())


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught_by_the_test_of_its_promise(bug: Bug) -> None:
    failed = failing_tests(bug.plant)
    assert bug.caught_by in failed, f"caught only by {sorted(failed)}"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught_by_random_operations(bug: Bug) -> None:
    assert fails_at_random(bug.plant), f"overlooked in {EXAMPLES} examples"
