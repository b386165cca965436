"""The judge of leases is judged."""

from tests.faults.leases import Grant, overlapping

FIRST = Grant("a", 1, called=1.0, returned=1.1, remaining=5.0)


def test_a_lease_after_the_deadline_of_the_one_before_overlaps_nothing() -> None:
    assert overlapping([FIRST, Grant("a", 2, called=1.2, returned=6.1, remaining=5.0)]) == []


def test_a_lease_after_the_one_before_was_given_up_overlaps_nothing() -> None:
    given_up = Grant("a", 1, called=1.0, returned=1.1, remaining=5.0, given_up=1.5)
    assert overlapping([given_up, Grant("a", 2, called=1.4, returned=1.6, remaining=5.0)]) == []


def test_a_lease_within_that_of_another_worker_is_found() -> None:
    later = Grant("a", 2, called=2.0, returned=2.1, remaining=5.0)
    other = Grant("b", 1, called=2.0, returned=2.1, remaining=5.0)
    assert overlapping([later, other, FIRST]) == [(FIRST, later)]
