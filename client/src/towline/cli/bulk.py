"""Work on many jobs, done by repeated calls that each handle a bounded number."""

from collections.abc import Callable
from dataclasses import dataclass

from towline.cli import output

BATCH = 1000
"""The most that one call may handle; a limit of the contract."""


@dataclass(frozen=True)
class Step:
    """What one call answered: how many jobs it met, and how many of them it handled."""

    matched: int
    handled: int


def repeat(label: str, total: int, call: Callable[[int], Step]) -> int:
    """Call until ``total`` jobs were handled or none is left; return how many were.

    ``call`` takes the number of jobs that it may handle. The bound keeps this from running for ever
    against producers that are faster.
    """
    done = 0
    with output.progress(label, total) as show:
        while done < total:
            step = call(min(BATCH, total - done))
            done += step.handled
            show(done, total)
            if step.handled == 0 or step.handled >= step.matched:
                break
    return done
