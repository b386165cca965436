"""P2: whether two leases of one job were live at the same moment."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

#: Brokers know the clock of their store to some milliseconds.
CLOCK_ERROR = 0.05


@dataclass(frozen=True, slots=True)
class Grant:
    """One lease, as the worker saw it; times of one clock, in seconds."""

    job_id: str
    attempt: int
    #: When the Reserve that brought it was called, and when it returned.
    called: float
    returned: float
    #: What was left of the lease when the reply was made.
    remaining: float
    #: When the worker began to settle it; None: never.
    given_up: float | None = None

    @property
    def lived_until(self) -> float:
        """At least: the broker cannot have granted it before the call."""
        end = self.called + self.remaining - CLOCK_ERROR
        return end if self.given_up is None else min(end, self.given_up)


def overlapping(grants: Iterable[Grant]) -> list[tuple[Grant, Grant]]:
    """Pairs of which the later one was there while the earlier one was certainly live."""
    by_job: dict[str, list[Grant]] = defaultdict(list)
    for grant in grants:
        by_job[grant.job_id].append(grant)
    found = []
    for its in by_job.values():
        its.sort(key=lambda grant: grant.attempt)
        found += [
            (earlier, later)
            for earlier, later in pairwise(its)
            if later.returned < earlier.lived_until
        ]
    return found
