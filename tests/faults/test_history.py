"""The judge is judged: a history with each kind of violation is found out."""

import pytest

from tests.faults.history import Delivery, History, judge


@pytest.fixture
def history() -> History:
    """One job, pushed, delivered twice (the first worker died) and acknowledged: all is well."""
    history = History()
    history.record_push(["a"], created=["a"])
    history.record_deliveries([Delivery("a", 1, called=1.0), Delivery("a", 2, called=2.0)])
    history.record_acks(["a"], returned=3.0)
    return history


def test_an_honest_history_is_not_blamed(history: History) -> None:
    assert judge(history).kept


def test_a_lost_job_is_found(history: History) -> None:
    history.record_push(["b"], created=["b"])
    assert judge(history).lost == 1


def test_a_delivery_after_the_ack_is_found(history: History) -> None:
    history.record_deliveries([Delivery("a", 3, called=3.5)])
    assert judge(history).delivered_after_ack == 1


def test_a_delivery_whose_reserve_was_under_way_during_the_ack_is_not_blamed(
    history: History,
) -> None:
    history.record_deliveries([Delivery("a", 3, called=2.9)])
    assert judge(history).delivered_after_ack == 0


def test_a_job_that_two_pushes_created_is_found(history: History) -> None:
    history.record_push(["a"], created=["a"])
    assert judge(history).created_twice == 1


def test_an_attempt_that_was_granted_twice_is_found(history: History) -> None:
    history.record_deliveries([Delivery("a", 2, called=2.5)])
    assert judge(history).attempts_repeated == 1
