"""Bugs planted in the memory engine, each a small departure from what it owes.

Every function takes a sound engine and spoils it. The engine is made of parts (its state, the lines
in which jobs wait, the settle memory); a bug replaces one method of one part, or wraps it.
"""

from tests.contract.planted_bugs import (
    in_moving,
    in_operating,
    in_push,
    in_reserve,
    in_settling,
    in_time,
)
from tests.contract.planted_bugs.in_sharing import SHARING_BUGS
from tests.contract.planted_bugs.planting import BUGS, Bug

__all__ = [
    "BUGS",
    "SHARING_BUGS",
    "Bug",
    "in_moving",
    "in_operating",
    "in_push",
    "in_reserve",
    "in_settling",
    "in_time",
]
