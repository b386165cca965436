"""Whether a history keeps the promises.

It never blames an honest broker: where a call's outcome is unknown, everything that it may have
done is allowed. What it blames, no order of events explains.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.harness.assumptions import STRICT, Assumptions
from tests.faults.harness.history import Delivered, History, Outcome, Pushed, Settled
from tests.faults.harness.rules_end import end_violations
from tests.faults.harness.rules_figures import figure_violations
from tests.faults.harness.rules_jobs import job_violations
from tests.faults.harness.rules_leases import lease_violations
from tests.faults.harness.rules_order import early_violations, order_violations
from tests.faults.harness.rules_unique import unique_violations
from tests.faults.harness.stories import Stories
from tests.faults.harness.violations import Violation

#: How many violations are told in full.
_TOLD = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    history: History
    violations: tuple[Violation, ...]
    counts: Counter[str]

    @property
    def kept(self) -> bool:
        return not self.violations

    def breaches(self, rule: str) -> int:
        return sum(violation.rule == rule for violation in self.violations)

    def __str__(self) -> str:
        counts = self.counts
        seen = (
            f"{counts['jobs']} jobs pushed in {counts['Push']} calls, {counts['deliveries']} "
            f"deliveries, {counts['acked']} acknowledged, {counts['dead']} dead, "
            f"{counts['unknown']} calls of unknown outcome"
        )
        if self.kept:
            return f"{seen}; violations 0"
        kinds = Counter(f"{each.promise} {each.rule}" for each in self.violations)
        return f"{seen}; violations: " + ", ".join(f"{kind} {n}" for kind, n in kinds.items())

    def told(self) -> str:
        """The verdict, and the shortest history for the first breach of each kind."""
        first = {violation.rule: violation for violation in reversed(self.violations)}
        parts = [each.told(self.history) for each in list(first.values())[:_TOLD]]
        return "\n".join([str(self), *parts])


def judge(history: History, assumptions: Assumptions = STRICT) -> Verdict:
    """After a full drain."""
    stories = Stories(history, assumptions)
    return Verdict(history, tuple(_violations(stories, assumptions)), _counts(history))


def _violations(stories: Stories, assumptions: Assumptions) -> Iterator[Violation]:
    yield from job_violations(stories)
    yield from end_violations(stories)
    yield from lease_violations(stories, assumptions.settle_memory)
    yield from unique_violations(stories)
    yield from early_violations(stories)
    if assumptions.order_slack is not None:
        yield from order_violations(stories, assumptions.order_slack, assumptions.undone)
    yield from figure_violations(stories)


def _counts(history: History) -> Counter[str]:
    counts: Counter[str] = Counter(call.rpc for call in history.calls)
    counts["unknown"] = sum(call.outcome is Outcome.UNKNOWN for call in history.calls)
    pushed, acked = set(), set()
    for call in history.calls:
        for item in call.items:
            if isinstance(item, Delivered):
                counts["deliveries"] += 1
            elif isinstance(item, Pushed) and item.answer in ("created", "existing"):
                pushed.add(item.stored_as or item.job_id)
            elif isinstance(item, Settled) and item.action == "ack" and item.answer == "ok":
                acked.add(item.job_id)
    counts["jobs"], counts["acked"] = len(pushed), len(acked)
    counts["dead"] = len(history.final.dead)
    return counts
