"""P6: what a broker remembers of its lines never hides a job of its own that became ready."""

import pytest

from towline_broker.drivers.sql.shared.ready import ReadyLines

QUEUE, PRIORITY = 1, 0


@pytest.fixture
def lines() -> ReadyLines:
    return ReadyLines()


def claim(lines: ReadyLines, *places: int) -> None:
    with lines.look() as look:
        lines.claimed(QUEUE, [(0, PRIORITY, place) for place in places], look)


def change(lines: ReadyLines, first: int) -> None:
    bound = lines.change_begins()
    lines.change_has(bound, first)
    lines.change_ends(bound)


def test_claims_look_from_behind_what_was_claimed(lines: ReadyLines) -> None:
    claim(lines, 10, 11)
    assert lines.mark(QUEUE, PRIORITY) == 12


def test_a_mark_does_not_pass_the_places_of_a_change_that_is_not_over(lines: ReadyLines) -> None:
    slow = lines.change_begins()
    lines.change_has(slow, 20)
    change(lines, 30)
    claim(lines, 30)
    assert lines.mark(QUEUE, PRIORITY) == 20
    lines.change_ends(slow)
    claim(lines, 20)
    assert lines.mark(QUEUE, PRIORITY) == 21


def test_a_mark_does_not_pass_a_change_that_came_and_went_while_the_claim_looked(
    lines: ReadyLines,
) -> None:
    with lines.look() as look:
        change(lines, 20)
        change(lines, 30)
        lines.claimed(QUEUE, [(0, PRIORITY, 30)], look)
    assert lines.mark(QUEUE, PRIORITY) <= 20


def test_a_mark_does_not_pass_a_change_that_waits_for_its_places(lines: ReadyLines) -> None:
    claim(lines, 10)
    waiting = lines.change_begins()
    claim(lines, 13)  # of another broker
    assert lines.mark(QUEUE, PRIORITY) == 11
    lines.change_has(waiting, 12)
    claim(lines, 13)
    assert lines.mark(QUEUE, PRIORITY) == 12


def test_without_changes_of_its_own_a_mark_follows_the_claims(lines: ReadyLines) -> None:
    claim(lines, 10)
    with lines.look() as look:
        lines.claimed(QUEUE, [(0, PRIORITY, 500)], look)
    assert lines.mark(QUEUE, PRIORITY) == 501


def test_a_mark_does_not_pass_what_another_claim_gave_back_meanwhile(lines: ReadyLines) -> None:
    """The jobs were locked while it looked, so it passed over them; then the other one's
    transaction was rolled back, as after a deadlock."""
    claim(lines, 10, 11)
    with lines.look() as look:
        lines.returned(QUEUE, [(0, PRIORITY, 10), (0, PRIORITY, 11)])
        lines.claimed(QUEUE, [(0, PRIORITY, 12)], look)
    assert lines.mark(QUEUE, PRIORITY) == 10
