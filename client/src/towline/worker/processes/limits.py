"""When a process is replaced by a new one, and how much memory a process holds."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

from towline.errors import ConfigurationError

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")

SMALLEST = 10**6
"""Bytes. No Python process fits into less, so that a smaller number is one without its unit."""


@dataclass(frozen=True)
class ChildLimits:
    """After so many jobs, or with so many bytes resident, a process is replaced. None: never."""

    max_jobs: int | None = None
    max_memory: int | None = None


def resident_bytes() -> int:
    """The resident set of this process; where that is not told, the largest it ever was."""
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - after each job
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource  # which Windows has not

        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024


def parse_bytes(value: object, name: str) -> int:
    """Return a size: a number of bytes, or a string such as "200MB" or "1.5GiB".

    Raises ConfigurationError, naming ``name``, for anything else and for less than a megabyte.
    """
    size: float | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        unit = _UNITS.get(match[2].upper())
        size = None if unit is None else float(match[1]) * unit
    if size is None or size < SMALLEST:
        raise ConfigurationError(
            f'{name}: expected bytes or a string such as "200MB", at least 1 MB, got {value!r}'
        )
    return int(size)
