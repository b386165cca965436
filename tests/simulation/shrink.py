"""From a schedule that fails to a short one that fails in the same way."""

import time
from collections.abc import Iterator

from tests.simulation.plan import Plan
from tests.simulation.world import Result, play

#: With an operation less everything else comes at other moments: so many throws of the dice are
#: tried before an operation counts as needed.
_THROWS = 3
_SECONDS = 20.0


def shrunk(failed: Result, seconds: float = _SECONDS) -> Result:
    """With as few operations as it can find in this time."""
    deadline = time.monotonic() + seconds
    best = failed
    size = max(1, len(best.plan.operations) // 2)
    while time.monotonic() < deadline:
        shorter = _shorter(best, size, deadline)
        if shorter is not None:
            best = shorter
            size = min(size, max(1, len(best.plan.operations) // 2))
        elif size == 1:
            break
        else:
            size = max(1, size // 2)
    return best


def _shorter(failed: Result, size: int, deadline: float) -> Result | None:
    """The same without so many operations that follow each other, if that fails, too."""
    for plan in _without(failed.plan, size):
        if time.monotonic() > deadline:
            return None
        result = play(plan)
        if result.kinds & failed.kinds:
            return result
    return None


def _without(plan: Plan, size: int) -> Iterator[Plan]:
    numbers = [operation.number for operation in plan.operations]
    for begin in range(0, len(numbers), size):
        kept = {*numbers[:begin], *numbers[begin + size :]}
        for throw in range(_THROWS):
            yield plan.keeping(kept, plan.salt + throw)
