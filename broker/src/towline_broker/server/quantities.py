"""Lengths of time and counts as people write them in a configuration."""

import math
import re
from collections.abc import Callable

from towline_broker.domain.time import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Micros

_UNITS: dict[str, Micros] = {
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "min": MINUTE,
    "h": HOUR,
    "d": DAY,
}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)\s*")


def parse_duration(value: object) -> Micros:
    """A number of seconds, or text such as ``90``, ``10m``, ``1h30m`` or ``500ms``.

    Raises ValueError, saying what was expected.
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _parse_text(str(value))
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return round(value * SECOND)
    raise _unreadable(value)


def span(least: Micros, most: Micros) -> Callable[[object], Micros]:
    """A parser of durations within these bounds."""

    def parse(value: object) -> Micros:
        micros = parse_duration(value)
        if not least <= micros <= most:
            raise ValueError(f"{value!r}: expected {in_units(least)} to {in_units(most)}")
        return micros

    return parse


def in_units(micros: Micros) -> str:
    """The inverse of :func:`parse_duration`, in the largest unit that gives a whole number."""
    for name in ("d", "h", "m", "s"):
        if micros and micros % _UNITS[name] == 0:
            return f"{micros // _UNITS[name]}{name}"
    return f"{micros / MILLISECOND:g}ms" if micros else "0s"


def _parse_text(text: str) -> Micros:
    total, end = 0.0, 0
    while part := _PART.match(text, end):
        total += float(part[1]) * _UNITS[part[2]]
        end = part.end()
    if end == 0 or end != len(text):
        raise _unreadable(text)
    return round(total)


def _unreadable(value: object) -> ValueError:
    return ValueError(
        f"{value!r} is no length of time: write seconds, or text such as '10m', '1h30m', '500ms'"
    )
