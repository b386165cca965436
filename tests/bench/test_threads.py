"""Callers in threads: what comes before the time that counts is not counted."""

import threading
import time

import pytest

from bench.raw.threads import from_threads


def test_what_warms_up_is_not_counted() -> None:
    called: list[float] = []

    def slow_at_first() -> None:
        time.sleep(0.3 if not called else 0.01)
        called.append(time.perf_counter())

    done = from_threads([slow_at_first], 0.1)
    assert done.all == len(called)
    assert 0 < done.jobs < done.all
    assert done.seconds < 0.3


def test_all_begin_to_count_together() -> None:
    entered: set[int] = set()

    def slow() -> None:
        entered.add(threading.get_ident())
        time.sleep(0.01)

    done = from_threads([slow] * 8, 0.1)
    assert len(entered) == 8
    assert done.jobs >= 8
    assert done.all > done.jobs


def test_what_one_raises_ends_all() -> None:
    def fails() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        from_threads([fails, lambda: time.sleep(0.01)], 5.0)
