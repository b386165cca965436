"""The contract suite can fail: each planted bug is caught, and by the test meant to catch it."""

import asyncio
import inspect
from collections.abc import Callable, Sequence

import pytest
from hypothesis import Phase

from tests.contract.kept_memory import REOPEN_BUGS, KeptHarness, Recover
from tests.contract.planted_bugs import BUGS, SHARING_BUGS, Bug
from tests.contract.shared_memory import SharedDriver, SharedHarness
from tests.faults.harness.figures import size
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.memory import Engine, MemoryDriver
from towline_broker.testing import (
    DriverContract,
    DurableDriverContract,
    Harness,
    NewHarness,
    SharedDriverContract,
    Store,
    check_at_random,
)

#: Random examples that are played before a bug counts as overlooked.
EXAMPLES = 4000
#: Also bugs that take long to be found: `make faults ARGS=planted` does it.
LATE = bool(size("LATE_BUGS", 0))


class SpoiledHarness(Harness):
    def __init__(self, plant: Callable[[Engine], None]) -> None:
        self._plant = plant

    def driver(self) -> Driver:
        engine = Engine()
        self._plant(engine)
        return MemoryDriver(engine)


def contract_tests(contract: type[DriverContract]) -> list[str]:
    members = inspect.getmembers(contract, inspect.iscoroutinefunction)
    return [name for name, _ in members if name.startswith("test_")]


def failing_tests(
    contract: type[DriverContract], new_harness: NewHarness, names: Sequence[str] = ()
) -> set[str]:
    """Runs the tests of the contract, all or these, each on a new store; returns the names of those
    that fail."""

    async def passes(name: str) -> bool:
        test = getattr(contract(), name)
        store = Store(new_harness())
        fixtures = {"store": store, "other": store.beside(new_harness()), "peer": store.peer()}
        wanted = [fixtures[parameter] for parameter in inspect.signature(test).parameters]
        try:
            for fixture in {store, *wanted}:
                await fixture.open()
            await test(*wanted)
        except TypeError:
            raise  # a bug that no longer fits the engine proves nothing
        except (Exception, pytest.fail.Exception):
            return False
        return True

    async def run() -> set[str]:
        wanted = names or contract_tests(contract)
        return {name for name in wanted if not await passes(name)}

    return asyncio.run(run())


def fails_at_random(new_harness: NewHarness) -> bool:
    try:
        check_at_random(
            new_harness,
            examples=EXAMPLES,
            phases=[Phase.generate],
            database=None,
            derandomize=True,
            report_multiple_bugs=False,
            print_blob=False,
        )
    except TypeError:
        raise
    except Exception:
        return True
    return False


def test_a_sound_engine_passes() -> None:
    assert failing_tests(DriverContract, lambda: SpoiledHarness(lambda engine: None)) == set()
    assert failing_tests(DurableDriverContract, KeptHarness) == set()
    assert failing_tests(SharedDriverContract, SharedHarness) == set()


@pytest.mark.timeout(600)
def test_random_operations_and_crashes_on_a_sound_store_pass() -> None:
    check_at_random(KeptHarness, examples=100)


def test_the_tests_meant_to_catch_the_bugs_exist() -> None:
    meant = {*(bug.caught_by for bug in BUGS), *REOPEN_BUGS.values()}
    assert meant <= set(contract_tests(DurableDriverContract))
    assert set(SHARING_BUGS.values()) <= set(contract_tests(SharedDriverContract))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught_by_the_test_meant_to(bug: Bug) -> None:
    failed = failing_tests(DriverContract, lambda: SpoiledHarness(bug.plant))
    assert bug.caught_by in failed, f"caught only by {sorted(failed)}"


# The late ones take up to half a minute of a processor, of which there may be a tenth.
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "bug",
    [bug for bug in BUGS if bug.found_at_random and (LATE or not bug.found_late)],
    ids=lambda bug: bug.name,
)
def test_a_planted_bug_is_caught_by_random_operations(bug: Bug) -> None:
    assert fails_at_random(lambda: SpoiledHarness(bug.plant)), "overlooked"


@pytest.mark.parametrize("recover", REOPEN_BUGS, ids=lambda recover: recover.__name__)
def test_a_bug_in_reopening_is_caught_by_the_test_meant_to(recover: Recover) -> None:
    failed = failing_tests(DurableDriverContract, lambda: KeptHarness(recover))
    assert REOPEN_BUGS[recover] in failed, f"caught only by {sorted(failed)}"


@pytest.mark.parametrize("driver", SHARING_BUGS, ids=lambda driver: driver.__name__)
def test_a_bug_in_sharing_is_caught_by_the_test_meant_to(
    driver: type[SharedDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("towline_broker.testing.heard.PATIENCE", 0.2)
    name = SHARING_BUGS[driver]
    assert failing_tests(SharedDriverContract, lambda: SharedHarness(driver), [name]) == {name}
