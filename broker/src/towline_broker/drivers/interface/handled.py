"""The answer of calls that change many jobs, a bounded number at a time."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Handled:
    """``matched``: all that the selection met before the call; ``handled``: those of them
    changed."""

    matched: int
    handled: int
