"""Units of time."""

from typing import TypeAlias

#: A point in time (since the Unix epoch, on the clock of the store) or a length of time, in
#: microseconds.
Micros: TypeAlias = int

MILLISECOND: Micros = 1_000
SECOND: Micros = 1_000_000
MINUTE: Micros = 60 * SECOND
HOUR: Micros = 60 * MINUTE
DAY: Micros = 24 * HOUR


def from_seconds(seconds: float) -> Micros:
    """Rounds a number of seconds to whole microseconds."""
    return round(seconds * SECOND)


def to_seconds(micros: Micros) -> float:
    return micros / SECOND
