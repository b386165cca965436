"""The checker is judged: it never blames an honest broker, and always one that breaks a promise.

Histories come from a model of a broker over a network that loses, and are then falsified, each in
one place.
"""

import os
from functools import cache
from random import Random

import pytest

from tests.faults.harness import falsified
from tests.faults.harness.assumptions import Assumptions
from tests.faults.harness.checker import Verdict, judge
from tests.faults.harness.falsified import Falsify
from tests.faults.harness.history import History
from tests.faults.harness.honest_history import LATE, Losses, honest_history

#: Histories for each test.
HISTORIES = int(os.environ.get("TOWLINE_CHECKER_HISTORIES", "25"))
#: The same ones in every plain run, so that a change is what makes it fail.
SEED = int(os.environ.get("TOWLINE_SEED", "1"))
SEEDS = range(SEED, SEED + HISTORIES)
AGAIN = f"TOWLINE_SEED={SEED} TOWLINE_CHECKER_HISTORIES={HISTORIES}"

#: Everything that was sent arrived.
NO_LOSSES = Losses(0, 0, 0)


@cache
def honest(seed: int, losses: Losses, operator: bool) -> History:
    """Never to be changed."""
    return honest_history(seed, losses, operator=operator)


def judged(history: History) -> Verdict:
    return judge(history, Assumptions(late=LATE))


@pytest.mark.parametrize("losses", [Losses(), NO_LOSSES, Losses(0.3, 0.3)])
def test_an_honest_broker_is_never_blamed(losses: Losses) -> None:
    for seed in SEEDS:
        verdict = judged(honest(seed, losses, operator=True))
        assert verdict.kept, f"{AGAIN}: history {seed}:\n{verdict.told()}"


@pytest.mark.parametrize(
    ("promise", "falsify", "losses"),
    [
        ("P1", falsified.lost, Losses()),
        ("P1", falsified.left_behind, Losses()),
        ("P1", falsified.ack_undone, Losses()),
        ("P2", falsified.delivered_after_its_ack, Losses()),
        ("P2", falsified.delivered_while_leased, Losses()),
        ("P2", falsified.stale_token_taken, Losses()),
        ("P3", falsified.stored_twice, Losses()),
        ("P3", falsified.repeat_told_otherwise, Losses()),
        ("P5", falsified.attempt_skipped, NO_LOSSES),
        ("P6", falsified.overtaken, NO_LOSSES),
        ("P7", falsified.dead_twice, Losses()),
        ("P7", falsified.not_among_the_dead, Losses()),
        ("P7", falsified.dead_without_reason, Losses()),
        ("P7", falsified.dead_without_an_end, Losses()),
        ("P7", falsified.expired_too_early, Losses()),
        ("P10", falsified.given_too_early, Losses()),
        *(
            ("Stats", falsified.total(name, by), NO_LOSSES)
            for name in ("pushed", "completed", "started", "released", "failed", "retried")
            for by in (1, -1)
        ),
        *(("Stats", falsified.depth(name), Losses()) for name in ("ready", "leased", "dead")),
    ],
)
def test_a_falsified_history_is_always_blamed(
    promise: str, falsify: Falsify, losses: Losses
) -> None:
    places = 0
    for seed in SEEDS:
        history = falsify(honest(seed, losses, operator=promise != "Stats"), Random(seed))
        if history is not None:
            places += 1
            verdict = judged(history)
            blamed = {violation.promise for violation in verdict.violations}
            assert promise in blamed, f"{AGAIN}: history {seed}: {verdict}"
    assert places > HISTORIES / 4
