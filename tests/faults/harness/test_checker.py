"""The checker is judged, rule by rule: of two histories that differ in little, one is in order and
the other is blamed, for that and for nothing else."""

from dataclasses import replace

import pytest

from tests.faults.harness.assumptions import Assumptions
from tests.faults.harness.checker import judge
from tests.faults.harness.history import FinalJob
from tests.faults.harness.told_histories import (
    A2,
    A,
    B,
    Told,
    dead,
    done,
    failed,
    holder,
    lost_lease,
    rules,
    succeeded,
)

HONEST = {
    "done": done().told(A),
    "a Push without an answer, and no job": Told().push("a", at=1).unanswered().told(),
    "a Push that was refused": Told().push("a", at=1, answer="rejected").told(),
    "a Push that was refused at first": (
        Told()
        .push("a", at=1, answer="rejected")
        .push("a", at=1.5)
        .reserve("a", at=2)
        .settle("ack", "a", at=3)
        .told(A)
    ),
    "one id twice in a Push": (
        Told().push("a", at=1).also_pushed("a").reserve("a", at=2).settle("ack", "a", at=3).told(A)
    ),
    "a repeated Push": done().push("a", at=4, answer="existing").told(A),
    "a repeated Ack": done().settle("ack", "a", at=4).told(A),
    "a Nack after the Ack": done().settle("retry", "a", at=4, answer="already_settled").told(A),
    "a unique key that is held": (
        holder()
        .push("b", at=2.5, unique_key="k", answer="existing", stored_as="a")
        .settle("ack", "a", at=3)
        .told(A)
    ),
    "a unique key that is free again": (
        holder()
        .settle("ack", "a", at=3)
        .push("b", at=4, unique_key="k")
        .reserve("b", at=5)
        .settle("ack", "b", at=6)
        .told(A, B)
    ),
    "a lost lease": lost_lease().settle("ack", "a", at=9, of=2).told(A2),
    "a late Ack": (
        lost_lease()
        .settle("ack", "a", at=8.5, answer="lease_lost")
        .settle("ack", "a", at=9, of=2)
        .told(A2)
    ),
    "a heartbeat kept it": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .beat("a", at=6)
        .reserve("a", at=11.5, attempt=2)
        .settle("ack", "a", at=12, of=2)
        .told(A2)
    ),
    "an Ack that came late and was not answered": (
        Told().push("a", at=1).reserve("a", at=2).settle("ack", "a", at=3).unanswered().told(A)
    ),
    "a failure": failed().reserve("a", at=4, attempt=2).settle("ack", "a", at=5, of=2).told(A2),
    "a release": (
        failed("release")
        .reserve("a", at=4, of="second")
        .settle("ack", "a", at=5, of="second")
        .told(succeeded("a", releases=1))
    ),
    "a Reserve that nobody heard": (
        Told()
        .push("a", at=1)
        .reserve(at=2)
        .unanswered()
        .reserve("a", at=8, attempt=2)
        .settle("ack", "a", at=9, of=2)
        .told(A2)
    ),
    "dead at the last attempt": failed(max_attempts=1).told(dead("a", "ATTEMPTS_EXHAUSTED")),
    "dead by a lost lease": (
        Told().push("a", at=1, max_attempts=1).reserve("a", at=2).told(dead("a", "LEASE_EXPIRED"))
    ),
    "rejected": failed("reject").told(dead("a", "REJECTED")),
    "expired": Told().push("a", at=1, expires=1.0).told(dead("a", "EXPIRED", attempt=0)),
    "requeued": (
        failed("reject")
        .requeue("a", at=4)
        .reserve("a", at=5, of="again")
        .settle("ack", "a", at=6, of="again")
        .told(A)
    ),
    "discarded": failed("reject").discard("a", at=4).told(),
    "cancelled": (Told().push("a", at=1).cancel("a", at=2).told(FinalJob("a", "CANCELLED", 0, 0))),
    "cancelled while leased": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .cancel("a", at=3)
        .beat("a", at=4, answer="cancelled")
        .settle("ack", "a", at=5, answer="lease_lost")
        .told(FinalJob("a", "CANCELLED", 1, 0))
    ),
    "delayed": (
        Told().push("a", at=1, delay=2.0).reserve("a", at=3).settle("ack", "a", at=4).told(A)
    ),
    "behind those that were ready when it came back": (
        failed()
        .push("b", at=2.5)
        .reserve("b", at=4)
        .reserve("a", at=5, attempt=2)
        .settle("ack", "b", at=6)
        .settle("ack", "a", at=6, of=2)
        .told(A2, B)
    ),
    "in order": (
        Told()
        .push("a", at=1)
        .push("b", at=2)
        .reserve("a", "b", at=3)
        .settle("ack", "a", "b", at=4)
        .told(A, B)
    ),
    "by priority": (
        Told()
        .push("a", at=1)
        .push("b", at=2, priority=1)
        .reserve("b", at=3)
        .reserve("a", at=4)
        .settle("ack", "a", "b", at=5)
        .told(A, B)
    ),
    "Stats": done().told(A, pushed=1, started=1, completed=1),
    "Stats of a failure": (
        failed(max_attempts=1).told(
            dead("a", "ATTEMPTS_EXHAUSTED"), pushed=1, started=1, failed=1, dead_lettered=1
        )
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_history_is_not_blamed(name: str) -> None:
    assert rules(HONEST[name]) == set()


PLANTED = {
    "P1 lost": Told().push("a", at=1).told(),
    "P1 never came to an end": Told().push("a", at=1).told(FinalJob("a", "READY", 0, 0)),
    "P1 succeeded by itself": Told().push("a", at=1).told(succeeded("a", attempt=0)),
    "P1 an Ack was lost": done().told(FinalJob("a", "CANCELLED", 1, 0)),
    "P2 overlapping leases": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .reserve("a", at=3, attempt=2)
        .settle("ack", "a", at=4, of=2)
        .told(A2)
    ),
    "P2 stale token accepted": (
        lost_lease().beat("a", at=8.5).settle("ack", "a", at=9, of=2).told(A2)
    ),
    "P2 delivered after its end": done().reserve("a", at=4, attempt=2).told(A2),
    "P2 live lease refused": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .settle("ack", "a", at=3, answer="lease_lost")
        .reserve("a", at=8, attempt=2)
        .settle("ack", "a", at=9, of=2)
        .told(A2)
    ),
    "P3 stored twice": done().push("a", at=4).told(A),
    "P3 unique key held twice": (
        Told()
        .push("a", at=1, max_attempts=1000, unique_key="k")
        .push("b", at=2, max_attempts=1000, unique_key="k")
        .reserve("a", "b", at=3)
        .settle("ack", "a", "b", at=4)
        .told(A, B)
    ),
    "P3 unique key not freed": (
        holder()
        .settle("ack", "a", at=3)
        .push("b", at=4, unique_key="k", answer="existing", stored_as="a")
        .told(A)
    ),
    "P3 existed before its Push": (
        Told()
        .push("a", at=1, answer="existing")
        .reserve("a", at=2)
        .settle("ack", "a", at=3)
        .told(A)
    ),
    "P3 another answer to the same settle": (
        done().settle("ack", "a", at=4, answer="lease_lost").told(A)
    ),
    "P3 completed twice": (
        lost_lease().settle("ack", "a", at=9).settle("ack", "a", at=10, of=2).told(A2)
    ),
    "P3 settled in two ways": (done().settle("retry", "a", at=4).told(A)),
    "P3 a lost lease was settled": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .settle("ack", "a", at=8, answer="lease_lost")
        .settle("ack", "a", at=9)
        .told(A)
    ),
    "P5 more attempts than allowed": (
        failed(max_attempts=1).reserve("a", at=4, attempt=2).settle("ack", "a", at=5, of=2).told(A2)
    ),
    "P5 attempts not exact": (
        failed()
        .reserve("a", at=4, attempt=3)
        .settle("ack", "a", at=5, of=3)
        .told(succeeded("a", 3))
    ),
    "P6 left after a job that was ready later": (
        Told()
        .push("a", at=1)
        .push("b", at=2)
        .reserve("b", at=3)
        .reserve("a", at=4)
        .settle("ack", "a", "b", at=5)
        .told(A, B)
    ),
    "P6 left after a job that was ready later, for it came back": (
        failed()
        .push("b", at=2.5)
        .reserve("a", at=4, attempt=2)
        .reserve("b", at=5)
        .settle("ack", "a", at=6, of=2)
        .settle("ack", "b", at=6)
        .told(A2, B)
    ),
    "P6 stands behind a job that was pushed later": (
        Told()
        .push("a", at=1)
        .push("b", at=2)
        .reserve("b", "a", at=3)
        .settle("ack", "a", "b", at=4)
        .told(A, B)
    ),
    "P6 stayed while one of lower priority left": (
        Told()
        .push("a", at=1, priority=1)
        .push("b", at=2)
        .reserve("b", at=3)
        .reserve("a", at=4)
        .settle("ack", "a", "b", at=5)
        .told(A, B)
    ),
    "P7 completed and dead": done().told(dead("a", "LEASE_EXPIRED")),
    "P7 missing among the dead": failed("reject").told(FinalJob("a", "CANCELLED", 1, 0)),
    "P7 dead without a cause": Told().push("a", at=1).told(dead("a", "REJECTED", attempt=0)),
    "P7 dead without reason or time": failed("reject").told(dead("a", "REJECTED", lived=None)),
    "P7 dead without a failure": (
        failed("reject").told(replace(dead("a", "REJECTED"), failed=False))
    ),
    "P7 dead for another reason": failed("reject").told(dead("a", "ATTEMPTS_EXHAUSTED")),
    "P7 expired too early": (
        Told().push("a", at=1, expires=5.0).told(dead("a", "EXPIRED", attempt=0, lived=4.0))
    ),
    "P9 stored although refused": (
        Told()
        .push("a", at=1, answer="rejected")
        .reserve("a", at=2)
        .settle("ack", "a", at=3)
        .told(A)
    ),
    "P10 given too early": (
        Told().push("a", at=1, delay=9.0).reserve("a", at=3).settle("ack", "a", at=4).told(A)
    ),
    "Stats totals.pushed": done().told(A, pushed=2, started=1, completed=1),
    "Stats totals.completed": done().told(A, pushed=1, started=1),
    "Stats totals.started": done().told(A, pushed=1, started=2, completed=1),
    "Stats totals.cancelled": done().told(A, pushed=1, started=1, completed=1, cancelled=1),
    "Stats totals.lease_expired": done().told(A, pushed=1, started=1, completed=1, lease_expired=1),
    "Stats totals.released": done().told(A, pushed=1, started=1, completed=1, released=1),
    "Stats totals.requeued": done().told(A, pushed=1, started=1, completed=1, requeued=1),
    "Stats totals.dead_lettered": done().told(A, pushed=1, started=1, completed=1, dead_lettered=1),
    "Stats sum": done().told(A, pushed=1, started=1, completed=1, failed=1, retried=1),
}

#: What cannot be broken alone.
ALSO = {
    "P1 an Ack was lost": {"P1 cancelled by itself"},
    "P2 stale token accepted": {"P2 overlapping leases"},
    "P2 delivered after its end": {"P5 attempts not exact"},
    "P3 completed twice": {"P2 stale token accepted"},
    "P5 more attempts than allowed": {"P7 missing among the dead"},
    "P5 attempts not exact": {"P5 leases not counted"},
    "P7 missing among the dead": {"P1 cancelled by itself"},
    "P7 completed and dead": {
        "P1 an Ack was lost",
        "P7 dead for another reason",
        "P7 dead without a cause",
    },
    "P7 dead without a cause": {"P7 dead for another reason"},
    **{
        f"Stats totals.{name}": {"Stats sum"}
        for name in ("completed", "started", "released", "dead_lettered", "lease_expired")
    },
}


@pytest.mark.parametrize("rule", PLANTED)
def test_a_planted_violation_is_found_by_its_rule_alone(rule: str) -> None:
    found, rule = rules(PLANTED[rule]), rule.partition(",")[0]
    assert rule in found
    assert found - {rule} <= ALSO.get(rule, set())


def test_a_depth_that_is_not_zero_after_the_drain_is_found() -> None:
    for name in ("scheduled", "ready", "leased"):
        history = done().told(A)
        history.final.depth[name] = 1
        assert rules(history) == {f"Stats depth.{name}"}


def test_a_dead_letter_queue_that_is_not_as_deep_as_it_is_said_to_be_is_found() -> None:
    history = failed("reject").told(dead("a", "REJECTED"))
    history.final.depth["dead"] = 2
    assert rules(history) == {"Stats depth.dead"}


def test_a_job_that_is_shown_twice_among_the_dead_is_found() -> None:
    history = failed("reject").told(dead("a", "REJECTED"))
    history.final.dead.append("a")
    history.final.depth["dead"] = 2
    assert rules(history) == {"P7 dead more than once"}


def test_the_order_is_judged_only_as_far_as_all_brokers_know_of_a_job() -> None:
    history = PLANTED["P6 left after a job that was ready later"]
    assert judge(history, Assumptions(order_slack=2.0)).kept
    assert judge(history, Assumptions(order_slack=None)).kept


@pytest.mark.parametrize(
    "rule",
    ["P6 left after a job that was ready later", "P6 stayed while one of lower priority left"],
)
def test_what_a_claim_hid_that_came_to_nothing_leaves_soon_afterwards(rule: str) -> None:
    # The one that was passed over left a second after the other one.
    history = PLANTED[rule]
    assert judge(history, Assumptions(undone=1.5)).kept
    assert not judge(history, Assumptions(undone=0.5)).kept


def test_what_a_store_may_have_forgotten_is_not_held_against_it() -> None:
    history = PLANTED["P3 another answer to the same settle"]
    assert judge(history, Assumptions(settle_memory=0.5)).kept


def test_the_shortest_history_that_shows_it_is_told() -> None:
    told = judge(
        done()
        .push("b", at=5)
        .reserve("b", at=6)
        .settle("ack", "b", at=7)
        .push("a", at=8)
        .told(A, B)
    ).told()
    assert "P3: stored twice: two pushes created it" in told
    assert "job_id=a" in told
    assert "job_id=b" not in told
