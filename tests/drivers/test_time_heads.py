"""Where looks at an index by time begin: at its beginning, unless that has become slow."""

from towline_broker.core.settings import CoreSettings
from towline_broker.domain.time import SECOND
from towline_broker.drivers.sql.shared.heads import PAUSE, SHARE, SLOW, TimeHeads


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def look(heads: TimeHeads, clock: Clock, took: float, found: int | None) -> int:
    """One look that lasts so long; returns where it began."""
    since = heads.since("due")
    clock.now += took
    heads.reached("due", found)
    return since


def test_as_long_as_looks_are_fast_each_begins_at_the_beginning() -> None:
    clock = Clock()
    heads = TimeHeads(clock)
    assert [look(heads, clock, SLOW / 2, found) for found in (5, 7, None, 9)] == [0, 0, 0, 0]


def test_after_a_slow_look_the_next_ones_begin_at_what_it_found() -> None:
    clock = Clock()
    heads = TimeHeads(clock)
    look(heads, clock, 2 * SLOW, 50)
    assert look(heads, clock, 0.0, 60) == 50
    assert look(heads, clock, 0.0, None) == 60
    assert look(heads, clock, 0.0, None) == 60


def test_what_this_broker_puts_in_front_is_seen_by_the_next_look() -> None:
    clock = Clock()
    heads = TimeHeads(clock)
    look(heads, clock, 2 * SLOW, 50)
    heads.appeared("due", 20)
    heads.appeared("due", 30)
    assert look(heads, clock, 0.0, None) == 20


def test_what_another_broker_puts_in_front_is_seen_after_a_bounded_time() -> None:
    clock = Clock()
    heads = TimeHeads(clock)
    for took in (2 * SLOW, 3.0):
        look(heads, clock, took, 50)
        clock.now += max(PAUSE, SHARE * took) - 0.001
        assert look(heads, clock, 0.0, None) == 50
        clock.now += 0.002
        assert heads.since("due") == 0


def test_p8_it_is_seen_in_time_as_long_as_a_look_is_not_much_slower() -> None:
    assert CoreSettings().upkeep_interval / SECOND + max(PAUSE, SHARE * 1.5 * SLOW) < 1.0


def test_an_index_is_slow_for_itself() -> None:
    clock = Clock()
    heads = TimeHeads(clock)
    look(heads, clock, 2 * SLOW, 50)
    assert heads.since("leases") == 0
