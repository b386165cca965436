"""Durations as users write them: seconds, or a timedelta."""

import math
from datetime import timedelta
from typing import TypeAlias

from towline.errors import InvalidJob

Seconds: TypeAlias = float | timedelta
"""A duration: a number of seconds (whole or not), or a timedelta."""


def as_timedelta(value: object, name: str) -> timedelta:
    """Return ``value``, given as Seconds, as a timedelta.

    Raises InvalidJob, naming ``name``, when it is no duration or a negative one.
    """
    if isinstance(value, timedelta):
        duration = value
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        try:
            duration = timedelta(seconds=value)
        except OverflowError:
            raise _invalid(value, name) from None
    else:
        raise _invalid(value, name)
    if duration < timedelta(0):
        raise _invalid(value, name)
    return duration


def _invalid(value: object, name: str) -> InvalidJob:
    return InvalidJob(f"{name}: expected seconds >= 0 or a timedelta, got {value!r}")
