"""Ids sort by the time they were made, and no two are the same."""

import os
import threading
import time
import uuid

import pytest

from towline.ids import uuid7


def test_is_a_canonical_uuid_of_version_7_with_the_time_in_front() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    parsed = uuid.UUID(made)
    assert str(parsed) == made
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    # Counting up may have run ahead of the clock by a moment.
    assert before <= parsed.int >> 80 <= after + 1


def test_each_is_greater_than_the_one_before() -> None:
    made = [uuid7() for _ in range(20_000)]
    assert made == sorted(set(made))


def test_a_clock_set_back_does_not_turn_the_order_round(monkeypatch: pytest.MonkeyPatch) -> None:
    first = uuid7()
    earlier = time.time_ns() - 3_600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: earlier)
    assert first < uuid7() < uuid7()


def test_a_millisecond_that_runs_out_of_numbers_spills_into_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.time_ns() + 10**9
    monkeypatch.setattr(time, "time_ns", lambda: now)
    monkeypatch.setattr(os, "urandom", lambda count: b"\xff" * count)
    monkeypatch.setattr("towline.ids._last_random", (1 << 74) - 2)
    monkeypatch.setattr("towline.ids._last_millisecond", now // 1_000_000)
    made = uuid7()
    assert uuid.UUID(made).int >> 80 == now // 1_000_000 + 1
    assert made < uuid7()


def test_threads_make_no_two_the_same() -> None:
    made: list[list[str]] = [[] for _ in range(8)]

    def make(into: list[str]) -> None:
        into.extend(uuid7() for _ in range(2_000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each for ids in made for each in ids}) == 16_000
    assert all(ids == sorted(ids) for ids in made)
