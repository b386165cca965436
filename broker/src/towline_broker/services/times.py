"""Between protobuf's durations and timestamps and microseconds."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from towline_broker.domain.time import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Micros

#: What protobuf allows, whatever an int64 could hold.
MAX_DURATION_SECONDS = 315_576_000_000
MIN_TIMESTAMP_SECONDS = -62_135_596_800
MAX_TIMESTAMP_SECONDS = 253_402_300_799
NANOS = 1_000_000_000


def to_duration(micros: Micros) -> Duration:
    """``micros`` must not be negative."""
    return Duration(seconds=micros // SECOND, nanos=micros % SECOND * 1_000)


def to_timestamp(micros: Micros) -> Timestamp:
    return Timestamp(seconds=micros // SECOND, nanos=micros % SECOND * 1_000)


def from_duration(duration: Duration) -> Micros:
    """Raises ValueError, saying what is wrong, for what is no duration of protobuf's."""
    seconds, nanos = duration.seconds, duration.nanos
    if abs(seconds) > MAX_DURATION_SECONDS:
        raise ValueError(f"{seconds} seconds are beyond the range of a Duration")
    if abs(nanos) >= NANOS or seconds * nanos < 0:
        raise ValueError(f"{nanos} nanos beside {seconds} seconds are no Duration")
    # Down, so that the smallest negative duration stays negative.
    return seconds * SECOND + nanos // 1_000


def from_timestamp(timestamp: Timestamp) -> Micros:
    """Raises ValueError, saying what is wrong, for what is no timestamp of protobuf's."""
    seconds, nanos = timestamp.seconds, timestamp.nanos
    if not MIN_TIMESTAMP_SECONDS <= seconds <= MAX_TIMESTAMP_SECONDS:
        raise ValueError(f"{seconds} seconds are beyond the range of a Timestamp")
    if not 0 <= nanos < NANOS:
        raise ValueError(f"{nanos} nanos are no part of a second")
    return seconds * SECOND + nanos // 1_000


def in_words(micros: Micros) -> str:
    """Such as ``12 h``, ``366 d`` or ``1.5 s``: the largest unit that gives a whole number."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s")):
        if micros and micros % unit == 0:
            return f"{micros // unit} {name}"
    if micros % MILLISECOND == 0 and 0 < abs(micros) < SECOND:
        return f"{micros // MILLISECOND} ms"
    return f"{micros / SECOND:g} s"
