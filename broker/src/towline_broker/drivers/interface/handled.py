"""The answer of calls that change many jobs, a bounded number at a time."""

from msgspec import Struct


class Handled(Struct, frozen=True, gc=False):
    """``matched``: all that the selection met before the call; ``handled``: those of them
    changed."""

    matched: int
    handled: int
