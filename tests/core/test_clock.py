"""P10: a jump of the machine's wall clock changes no lease and no delay."""

import asyncio
import time

import pytest

from towline_broker.core.clock import SystemClock
from towline_broker.domain.time import HOUR, MILLISECOND, MINUTE, SECOND


def test_it_starts_with_the_time_of_the_machine() -> None:
    assert SystemClock().now() == pytest.approx(time.time_ns() // 1_000, abs=SECOND)


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_a_jump_of_the_wall_clock_does_not_move_it(
    jump: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SystemClock()
    before, real = clock.now(), time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + jump * 1_000)
    assert 0 <= clock.now() - before < MINUTE


def test_it_goes_on_from_what_the_store_has_seen_and_never_back() -> None:
    clock = SystemClock()
    seen = clock.now() + HOUR
    clock.not_before(seen)
    assert clock.now() >= seen
    clock.not_before(seen - 2 * HOUR)
    assert clock.now() >= seen


@pytest.mark.parametrize("away", [-HOUR, HOUR])
def test_it_may_begin_at_another_time_than_the_machines(away: int) -> None:
    clock = SystemClock()
    moment = clock.now() + away
    clock.begin_at(moment)
    assert 0 <= clock.now() - moment < MINUTE


async def test_a_timer_fires_once_its_time_has_come_and_not_when_cancelled() -> None:
    clock, fired = SystemClock(), asyncio.Event()
    when = clock.now() + 20 * MILLISECOND
    clock.call_at(when + HOUR, fired.set).cancel()
    clock.call_at(when, fired.set)
    await asyncio.wait_for(fired.wait(), 30)
    assert clock.now() >= when - MILLISECOND
