"""P10: the brokers of a shared store go by its clock, each with a monotonic clock of its own."""

from collections.abc import Callable

import pytest

from towline_broker.core.clock import SystemClock
from towline_broker.core.following import Following
from towline_broker.domain.time import HOUR, MILLISECOND, SECOND, Micros
from towline_broker.drivers.interface import SoleOwner

#: What a reading in one process can be wrong by.
NEAR = 5 * MILLISECOND


class Clocked(SoleOwner):
    """A store whose clock is as far from the one that follows as the test says."""

    def __init__(self, tell: Callable[[Micros], Micros]) -> None:
        self.tell = tell

    async def time(self, now: Micros) -> Micros:
        return self.tell(now)


@pytest.mark.parametrize("ahead", [2 * HOUR, 30 * MILLISECOND])
async def test_a_clock_that_is_behind_catches_up_at_once(ahead: Micros) -> None:
    clock, true = SystemClock(), SystemClock()
    await Following("s", Clocked(lambda _: true.now() + ahead), clock).look()
    assert clock.now() - true.now() == pytest.approx(ahead, abs=NEAR)


async def test_a_clock_that_is_ahead_stands_still_and_never_runs_backwards() -> None:
    clock, true = SystemClock(), SystemClock()
    clock.adjust(1 * SECOND)
    before = clock.now()
    await Following("s", Clocked(lambda _: true.now()), clock).look()
    assert before <= clock.now() <= before + NEAR
    true.adjust(2 * SECOND)
    await Following("s", Clocked(lambda _: true.now()), clock).look()
    assert clock.now() == pytest.approx(true.now(), abs=NEAR)


async def test_the_quickest_of_several_readings_counts() -> None:
    clock, true = SystemClock(), SystemClock()
    slow = iter([True, False, True])

    def tell(_: Micros) -> Micros:
        told = true.now() + HOUR
        if next(slow):
            clock.adjust(80 * MILLISECOND)  # as long as the answer was under way
        return told

    await Following("s", Clocked(tell), clock).look()
    assert clock.now() - true.now() == pytest.approx(HOUR + 80 * MILLISECOND, abs=NEAR)


async def test_a_reading_that_took_too_long_changes_nothing() -> None:
    clock, true = SystemClock(), SystemClock()

    def tell(_: Micros) -> Micros:
        clock.adjust(1 * SECOND)
        return true.now() + HOUR

    await Following("s", Clocked(tell), clock).look()
    assert clock.now() - true.now() == pytest.approx(3 * SECOND, abs=NEAR)
