"""Seeds that are named, and figures that are shown.

A plain test run takes the same seed each time, so that a change is blamed for what it has done;
`make faults` draws one, which `TOWLINE_SEED` repeats. `TOWLINE_FIGURES` names a file to which every
figure is added as a line of JSON, from which the tables of docs/reliability.md are made.
"""

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness.checker import Verdict

_PLAIN = 1

#: Jobs of which a failover of a store may break a promise: those of the moment in which a master
#: had not told its replica yet, and those that they held up.
LOST_BY_A_FAILOVER = 500


def seed() -> int:
    """One for the whole run."""
    return size("SEED", _PLAIN)


def drawn_seed() -> int:
    """Of a program that looks for something new each time, unless a run is to be repeated. Ends the
    program if TOWLINE_SEED is no number."""
    try:
        return size("SEED", random.SystemRandom().randrange(2**32))
    except ValueError as error:
        raise SystemExit(str(error)) from None


def size(name: str, default: int) -> int:
    """How much of something a run does: ``TOWLINE_<name>``, or little. Raises ValueError."""
    given = os.environ.get(f"TOWLINE_{name}") or str(default)
    try:
        return int(given)
    except ValueError:
        raise ValueError(f"TOWLINE_{name} is {given!r}: expected a whole number") from None


def told(numbers: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in numbers.items())


def record(source: str, what: str, seed: int, numbers: Mapping[str, Any]) -> None:
    """In the file, if there is one. ``source``: the test or the program."""
    place = os.environ.get("TOWLINE_FIGURES")
    if place:
        row = {"test": source, "what": what, "seed": seed, **numbers}
        with Path(place).open("a") as file:
            file.write(json.dumps(row) + "\n")


class Figures:
    """Of one test."""

    def __init__(self, test: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._test = test
        self._capsys = capsys

    def show(self, what: str, **numbers: Any) -> None:
        """On the screen, and in the file if there is one."""
        with self._capsys.disabled():
            print(f"\n{what} (seed {seed()}): {told(numbers)}")  # noqa: T201 -- figures are wanted
        record(self._test, what, seed(), numbers)

    def prove(self, what: str, verdict: Verdict, **numbers: Any) -> None:
        """Shows the verdict; fails with the shortest history and the command that repeats it, and
        where so little was done that the verdict says nothing."""
        self._judge(what, verdict, numbers, kept=verdict.kept)

    def bear(self, what: str, verdict: Verdict, most: int, **numbers: Any) -> None:
        """As :meth:`prove`, where the promises may be broken of so many jobs at most."""
        jobs = {job for violation in verdict.violations for job in violation.job_ids}
        numbers |= {"jobs_concerned": len(jobs)}
        self._judge(what, verdict, numbers, kept=len(jobs) <= most)

    def _judge(self, what: str, verdict: Verdict, numbers: dict[str, Any], *, kept: bool) -> None:
        counts = verdict.counts
        assert counts["acked"], f"{what}: no job was acknowledged: {verdict}"
        names = ("jobs", "deliveries", "acked", "dead", "unknown")
        self.show(
            what,
            **numbers,
            **{name: counts[name] for name in names},
            violations=len(verdict.violations),
        )
        if not kept:
            again = f"TOWLINE_SEED={seed()} python -m pytest '{self._test}'"
            raise AssertionError(f"{what}: {verdict.told()}\nagain: {again}")
