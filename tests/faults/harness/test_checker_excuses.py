"""The checker is judged by what a broker might hide behind: what is unknown excuses no more than it
may have done, and what is shown at the end must agree with itself."""

from dataclasses import replace

import pytest

from tests.faults.harness.history import Delivered, FinalJob, History
from tests.faults.harness.told_histories import (
    A2,
    LEASE,
    A,
    B,
    Told,
    dead,
    done,
    failed,
    holder,
    rules,
    succeeded,
)

CHANGED = Delivered("a", 1, "a/1", LEASE, whole=False)
EXPIRED = dead("a", "EXPIRED", attempt=0)
CANCELLED = FinalJob("a", "CANCELLED", 0, 0)

HIDDEN = {
    "P1 lost, behind an Ack that was not answered": (
        Told().push("a", at=1).reserve("a", at=2).settle("ack", "a", at=3).unanswered().told()
    ),
    "P1 lost, behind a cancel": Told().push("a", at=1).cancel("a", at=2).told(),
    "P1 changed": (Told().push("a", at=1).gives(CHANGED, at=2).settle("ack", "a", at=3).told(A)),
    "P1 cancelled by itself": Told().push("a", at=1).told(CANCELLED),
    "P1 a cancel was lost": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .cancel("a", at=3)
        .settle("ack", "a", at=4)
        .unanswered()
        .told(A)
    ),
    "P2 one lease given twice": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .reserve("a", at=2.5)
        .settle("ack", "a", at=3)
        .told(A)
    ),
    "P2 overlapping leases, behind a cancel that was not answered": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .reserve("a", at=3, attempt=2)
        .settle("ack", "a", at=4, of=2)
        .cancel("a", at=9)
        .unanswered()
        .told(A2)
    ),
    "P2 live lease refused, to a heartbeat": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .beat("a", at=2.5, answer="lease_lost")
        .settle("ack", "a", at=3)
        .told(A)
    ),
    "P2 live lease refused, as if it had been settled": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .settle("ack", "a", at=3, answer="already_settled")
        .reserve("a", at=8, attempt=2)
        .settle("ack", "a", at=9, of=2)
        .told(A2)
    ),
    "P2 unknown token accepted": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .settle("ack", "a", at=3, of="nobody's")
        .settle("ack", "a", at=4)
        .told(A)
    ),
    "P3 a lost lease was settled, that was not found": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .settle("ack", "a", at=9, answer="not_found")
        .settle("ack", "a", at=10)
        .told(A)
    ),
    "P3 refused for the sake of nobody, as it has no key": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .push("b", at=2.5, answer="existing", stored_as="a")
        .settle("ack", "a", at=3)
        .told(A)
    ),
    "P3 refused for the sake of nobody, as its key is another": (
        holder()
        .push("b", at=2.5, unique_key="other", answer="existing", stored_as="a")
        .settle("ack", "a", at=3)
        .told(A)
    ),
    "P3 stored under another id": Told().push("a", at=1, stored_as="b").told(),
    "P3 existed before its Push, as that was refused": (
        Told()
        .push("a", at=1)
        .refused()
        .push("a", at=2, answer="existing")
        .reserve("a", at=3)
        .settle("ack", "a", at=4)
        .told(A)
    ),
    "P3 nobody pushed it": Told().reserve("a", at=1).settle("ack", "a", at=2).told(A),
    "P3 shown more than once": done().told(A, A),
    "P5 leases not counted": done().told(succeeded("a", attempt=1, releases=1)),
    "P5 leases not counted, though none was granted": (
        Told().push("a", at=1).cancel("a", at=2).told(replace(CANCELLED, attempt=3))
    ),
    "P5 releases not exact": done().told(FinalJob("a", "SUCCEEDED", 0, 1)),
    "P5 attempts not exact, behind a client that was killed long before": (
        Told()
        .reserve(at=0.5)
        .unanswered()
        .push("a", at=100)
        .reserve("a", at=101, attempt=2)
        .settle("ack", "a", at=102, of=2)
        .told(A2)
    ),
    "P7 dead for another reason, behind a Reserve that was not answered": (
        Told()
        .push("a", at=1, max_attempts=1000)
        .reserve(at=1.5)
        .unanswered()
        .reserve("a", at=2)
        .told(dead("a", "LEASE_EXPIRED"))
    ),
    "P7 given although expired": (
        Told().push("a", at=1, expires=1.0).reserve("a", at=6).settle("ack", "a", at=7).told(A)
    ),
    "P7 discarded in vain": failed("reject").discard("a", at=4).told(dead("a", "REJECTED")),
    "P9 stored although refused, for another has its key": (
        holder()
        .push("b", at=2.5, unique_key="k", answer="existing", stored_as="a")
        .settle("ack", "a", at=3)
        .reserve("b", at=4)
        .settle("ack", "b", at=5)
        .told(A, B)
    ),
    "P10 another term than asked": (
        Told()
        .push("a", at=1)
        .gives(Delivered("a", 1, "a/1", LEASE / 2, term=LEASE), at=2)
        .settle("ack", "a", at=3)
        .told(A)
    ),
    "P10 another term than asked, of a heartbeat": (
        Told()
        .push("a", at=1)
        .reserve("a", at=2)
        .beat("a", at=3, term=2 * LEASE)
        .settle("ack", "a", at=4)
        .told(A)
    ),
    "Stats sum, behind a Reserve that was not answered": (
        Told()
        .push("a", at=1)
        .reserve(at=1.5)
        .unanswered()
        .reserve("a", at=2)
        .settle("ack", "a", at=3)
        .told(succeeded("a"), pushed=1, started=2, completed=1, failed=1, retried=1)
    ),
    "Stats sum, behind a requeue": (
        failed("reject")
        .requeue("a", at=4)
        .reserve("a", at=5, of="again")
        .settle("ack", "a", at=6, of="again")
        .told(
            A,
            pushed=1,
            started=2,
            completed=1,
            failed=1,
            retried=1,
            dead_lettered=1,
            requeued=1,
        )
    ),
}

#: What cannot be hidden alone.
ALSO = {
    "P2 overlapping leases": {"P2 stale token accepted"},
    "P5 releases not exact": {"P5 attempts not exact"},
    "P5 attempts not exact": {"P5 leases not counted"},
    "P7 dead for another reason": {"P7 dead without a cause"},
    "Stats sum": {"Stats totals.started"},
}


@pytest.mark.parametrize("case", HIDDEN)
def test_a_hidden_violation_is_found_by_its_rule_alone(case: str) -> None:
    found, rule = rules(HIDDEN[case]), case.partition(",")[0]
    assert rule in found
    assert found - {rule} <= ALSO.get(rule, set())


def test_a_job_that_is_dead_in_one_list_only_is_found() -> None:
    told = Told().push("a", at=1, expires=1.0)
    assert rules(_listed(told.told(EXPIRED), dead=[])) == {"P7 dead in one list only"}
    alive = done().told(A)
    assert "P7 dead in one list only" in rules(_listed(alive, dead=["a"]))


def _listed(history: History, dead: list[str]) -> History:
    """The same with another answer of ListDead, and Stats that agrees with it."""
    history.final.dead = dead
    history.final.depth["dead"] = len(dead)
    return history
