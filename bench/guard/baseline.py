"""The figures that were agreed upon, and how others compare with them."""

import json
import platform
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

PLACE = Path(__file__).parent / "baseline.json"
#: How much more than in the baseline is too much.
BOUND = 0.10
#: The same with another Python or SQLite: the same code was seen to take 8 % less to 25 % more.
ELSEWHERE_BOUND = 0.40


@dataclass(frozen=True)
class Baseline:
    python: str
    """Major and minor version: each has instructions of its own."""
    sqlite: str
    figures: Mapping[str, float]
    """By path, per job."""

    @classmethod
    def here(cls, figures: Mapping[str, float]) -> "Baseline":
        python = ".".join(platform.python_version_tuple()[:2])
        rounded = {path: round(figure, 1) for path, figure in figures.items()}
        return cls(python, sqlite3.sqlite_version, rounded)

    @classmethod
    def load(cls, place: Path) -> "Baseline":
        return cls(**json.loads(place.read_text()))

    def save(self, place: Path) -> None:
        place.write_text(json.dumps(asdict(self), indent=2) + "\n")

    def or_less(self, other: "Baseline") -> "Baseline":
        """The lesser figure of each path."""
        figures = {
            path: min(figure, other.figures.get(path, figure))
            for path, figure in self.figures.items()
        }
        return replace(self, figures=figures)

    @property
    def made_with(self) -> str:
        return f"Python {self.python} and SQLite {self.sqlite}"

    def compare(self, now: "Baseline") -> "list[Comparison]":
        """Every path of both."""
        bound = BOUND if self.made_with == now.made_with else ELSEWHERE_BOUND
        gone = [path for path in self.figures if path not in now.figures]
        return [
            Comparison(path, self.figures.get(path), now.figures.get(path), bound)
            for path in (*now.figures, *gone)
        ]


@dataclass(frozen=True)
class Comparison:
    path: str
    then: float | None
    """None for a path that is new."""
    now: float | None
    """None for one that is gone."""
    bound: float

    @property
    def change(self) -> float:
        """0.1 for a tenth more than it was."""
        return self.now / self.then - 1 if self.now and self.then else 0.0

    @property
    def passes(self) -> bool:
        return self.then is not None and self.now is not None and self.change <= self.bound

    @property
    def better(self) -> bool:
        return self.change < -self.bound

    def __str__(self) -> str:
        if self.then is None or self.now is None:
            missing = "not in the baseline" if self.then is None else "not counted any more"
            return f"{self.path:34}{missing:>27}"
        verdict = "  better" if self.better else "" if self.passes else "  WORSE"
        return f"{self.path:34}{self.then:>9,.0f}{self.now:>9,.0f}{self.change:>+9.1%}{verdict}"
