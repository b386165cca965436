"""P10: the brokers of a shared store go by its clock, each with a monotonic clock of its own.

Here that clock is one that the test can set back, and brokers' machines can be sent to sleep. Time
passes by being looked at, so that nothing depends on how busy this machine is.
"""

from collections.abc import Callable
from itertools import count

import pytest

from towline_broker.core.clock import SystemClock
from towline_broker.core.following import Following
from towline_broker.domain.time import HOUR, MILLISECOND, MINUTE, SECOND, Micros
from towline_broker.drivers.interface import SoleOwner

#: A microsecond for each look at it.
_nanoseconds = count(start=1_000_000_000_000_000, step=1_000)
#: More looks than any of these tests takes.
NEAR = 5 * MILLISECOND


def ticking() -> SystemClock:
    return SystemClock(wall=lambda: next(_nanoseconds), monotonic=lambda: next(_nanoseconds))


class SharedStore(SoleOwner):
    def __init__(self) -> None:
        self._true = ticking()
        #: By how much somebody has set its clock.
        self.ahead: Micros = 0
        self.kept: dict[str, bytes] = {}
        self.while_read: Callable[[], None] = lambda: None

    async def time(self, now: Micros) -> Micros:
        self.while_read()
        return self._true.now() + self.ahead

    async def post(self, broker_id: str, notice: bytes, until: Micros) -> None:
        self.kept[broker_id] = notice

    async def notices(self, now: Micros) -> dict[str, bytes]:
        return dict(self.kept)

    def true_time(self) -> Micros:
        """As if nobody had ever set the clock."""
        return self._true.now()


class Broker:
    def __init__(self, store: SharedStore) -> None:
        self.clock = ticking()
        self.following = Following("s", store, self.clock)
        self._store = store

    def sleep(self, length: Micros) -> None:
        """Its machine does, and with it the monotonic clock."""
        self.clock._offset -= length

    @property
    def error(self) -> Micros:
        return self.clock.now() - self._store.true_time()


@pytest.fixture
def store() -> SharedStore:
    return SharedStore()


async def started(store: SharedStore) -> Broker:
    broker = Broker(store)
    await broker.following.begin()
    return broker


def near(expected: Micros = 0) -> object:
    return pytest.approx(expected, abs=NEAR)


@pytest.mark.parametrize("ahead", [2 * HOUR, -2 * HOUR, 30 * MILLISECOND])
async def test_a_broker_begins_with_the_time_of_the_store(
    store: SharedStore, ahead: Micros
) -> None:
    store.ahead = ahead
    assert (await started(store)).error == near(ahead)


async def test_a_clock_that_is_behind_catches_up_at_once(store: SharedStore) -> None:
    broker = await started(store)
    store.ahead = 500 * MILLISECOND
    await broker.following.look()
    assert broker.error == near(500 * MILLISECOND)


async def test_a_clock_that_is_ahead_stands_still_and_never_runs_backwards(
    store: SharedStore,
) -> None:
    broker = await started(store)
    store.ahead = -500 * MILLISECOND
    before = broker.clock.now()
    await broker.following.look()
    assert before <= broker.clock.now() <= before + NEAR
    store.ahead += 1 * SECOND  # that much later
    await broker.following.look()
    assert broker.error == near(500 * MILLISECOND)


async def test_the_quickest_of_several_readings_counts(store: SharedStore) -> None:
    broker = await started(store)
    slow = iter([True, False, True])

    def take_long() -> None:
        if next(slow):
            broker.clock.adjust(80 * MILLISECOND)

    store.ahead, store.while_read = 500 * MILLISECOND, take_long
    await broker.following.look()
    # (The third reading began after the one that counts.)
    assert broker.error == near(580 * MILLISECOND)


async def test_a_reading_that_took_too_long_changes_nothing(store: SharedStore) -> None:
    broker = await started(store)
    store.ahead = 500 * MILLISECOND
    store.while_read = lambda: broker.clock.adjust(220 * MILLISECOND)
    await broker.following.look()
    assert broker.error == near(660 * MILLISECOND)


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 5 * SECOND, -5 * SECOND])
async def test_the_time_goes_on_when_the_clock_of_the_store_is_set(
    store: SharedStore, jump: Micros, caplog: pytest.LogCaptureFixture
) -> None:
    brokers = [await started(store) for _ in range(3)]
    store.ahead = jump
    for _ in range(3):
        for broker in brokers:
            await broker.following.look()
            assert broker.error == near()
    (told,) = caplog.messages
    assert told.startswith(f"the clock of store s was set by {jump / SECOND:+.3f} s")
    # A date that somebody names is one of that clock.
    date = store.true_time() + jump + HOUR
    assert brokers[0].clock.of_date(date) - brokers[0].clock.now() == near(HOUR)
    assert (await started(store)).error == near()


async def test_a_broker_that_starts_when_the_others_are_gone_goes_on_with_their_time(
    store: SharedStore,
) -> None:
    before = await started(store)
    store.ahead = HOUR
    await before.following.look()
    assert (await started(store)).error == near()


async def test_a_clock_that_is_set_again_and_again_changes_nothing(store: SharedStore) -> None:
    brokers = [await started(store) for _ in range(2)]
    for store.ahead in (HOUR, -HOUR, 0, 2 * HOUR, 0):
        for broker in (*brokers, *brokers):
            await broker.following.look()
            assert broker.error == near()


async def test_a_clock_that_is_set_twice_before_another_broker_looks_changes_nothing(
    store: SharedStore,
) -> None:
    one, other = await started(store), await started(store)
    store.ahead = -HOUR
    await one.following.look()
    for store.ahead in (MINUTE, -MINUTE, 2 * HOUR):
        for broker in (other, one):
            await broker.following.look()
            assert (one.error, other.error) == (near(), near())


async def test_a_broker_that_has_slept_while_the_clock_was_set_is_where_the_others_are(
    store: SharedStore,
) -> None:
    slept, other = await started(store), await started(store)
    store.ahead = -HOUR
    for broker in (slept, other):
        await broker.following.look()
    slept.sleep(MINUTE)
    store.ahead = HOUR
    for broker in (slept, other, slept, other):
        await broker.following.look()
        assert (slept.error, other.error) == (near(), near())


async def test_a_broker_whose_machine_has_slept_follows_those_that_have_not(
    store: SharedStore, caplog: pytest.LogCaptureFixture
) -> None:
    slept, *others = brokers = [await started(store) for _ in range(3)]
    slept.sleep(MINUTE)
    for _ in range(3):
        for broker in brokers:
            await broker.following.look()
            assert broker is slept or broker.error == near()
    assert slept.error == near()
    assert caplog.messages[-1].startswith("this machine has slept for 60.0")
    assert all(other.error == near() for other in others)


async def test_of_two_that_have_slept_the_one_that_is_ahead_is_followed(
    store: SharedStore,
) -> None:
    long, short = brokers = [await started(store) for _ in range(2)]
    long.sleep(2 * MINUTE)
    short.sleep(MINUTE)
    for _ in range(4):
        for broker in brokers:
            await broker.following.look()
    assert [broker.error for broker in brokers] == [near(-MINUTE)] * 2


async def test_what_two_brokers_say_at_the_same_moment_is_settled(store: SharedStore) -> None:
    slept, other = await started(store), await started(store)
    slept.sleep(MINUTE)
    store.ahead = HOUR
    kept = store.kept
    for broker in (slept, other):
        store.kept = {}  # neither has read what the other says
        await broker.following.look()
        kept |= store.kept
    store.kept = kept
    for _ in range(2):
        for broker in (slept, other):
            await broker.following.look()
            assert other.error == near()
    assert slept.error == near()


async def test_what_the_store_forgets_of_it_is_told_again(store: SharedStore) -> None:
    broker = await started(store)
    store.ahead = HOUR
    await broker.following.look()
    store.kept.clear()
    await broker.following.look()
    assert broker.error == near()
    assert (await started(store)).error == near()


async def test_a_notice_that_cannot_be_read_is_passed_over(store: SharedStore) -> None:
    store.kept = {"clock-later": b"\xff", "clock-other": b"[]"}
    assert (await started(store)).error == near()
