"""Seeds that are named, and figures that are shown.

A plain test run takes the same seed each time, so that a change is blamed for what it has done;
`make faults` draws one, which `TOWLINE_SEED` repeats. `TOWLINE_FIGURES` names a file to which every
figure is added as a line of JSON, from which the tables of docs/reliability.md are made.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness.checker import Verdict

_PLAIN = 1


def seed() -> int:
    """One for the whole run."""
    return int(os.environ.get("TOWLINE_SEED", _PLAIN))


def size(name: str, default: int) -> int:
    """How much of something a run does: ``TOWLINE_<name>``, or little."""
    return int(os.environ.get(f"TOWLINE_{name}", default))


class Figures:
    """Of one test."""

    def __init__(self, test: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._test = test
        self._capsys = capsys

    def show(self, what: str, **numbers: Any) -> None:
        """On the screen, and in the file if there is one."""
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in numbers.items())
        with self._capsys.disabled():
            print(f"\n{what} (seed {seed()}): {told}")  # noqa: T201 -- the figures are wanted
        place = os.environ.get("TOWLINE_FIGURES")
        if place:
            row = {"test": self._test, "what": what, "seed": seed(), **numbers}
            with Path(place).open("a") as file:
                file.write(json.dumps(row) + "\n")

    def prove(self, what: str, verdict: Verdict, **numbers: Any) -> None:
        """Shows the verdict; fails with the shortest history and the command that repeats it."""
        counts = verdict.counts
        names = ("jobs", "deliveries", "acked", "dead", "unknown")
        self.show(
            what,
            **numbers,
            **{name: counts[name] for name in names},
            violations=len(verdict.violations),
        )
        if not verdict.kept:
            again = f"TOWLINE_SEED={seed()} python -m pytest '{self._test}'"
            raise AssertionError(f"{what}: {verdict.told()}\nagain: {again}")
