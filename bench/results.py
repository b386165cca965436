"""What was measured: figures of many rounds, in one line of JSON for each part."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_CHANGED = " with changes"


@dataclass(frozen=True)
class Figure:
    run: str
    """What was measured together, by turns: a store, or a field of contestants."""
    who: str
    """Whose figure it is: ``broker``, ``echo``, ``bare``, or a contestant."""
    what: str
    shape: str
    """How it was asked, such as ``100 x 8``: jobs a call, clients."""
    unit: str
    rounds: Sequence[float]
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.rounds), max(self.rounds)

    def ratios(self, to: "Figure") -> list[float]:
        """Times the other, of the same run: round by round, for rounds of one run are beside each
        other in time. That of the medians alone where one of them has fewer rounds."""
        if len(self.rounds) != len(to.rounds):
            return [self.median / to.median]
        return [here / there for here, there in zip(self.rounds, to.rounds, strict=True)]

    def against(self, to: "Figure") -> float:
        """The median of the ratios, which is not the ratio of the medians."""
        return statistics.median(self.ratios(to))


@dataclass(frozen=True)
class Part:
    name: str
    commit: str
    machine: str
    when: str
    quick: bool
    figures: list[Figure] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What this machine has not: in a sentence each."""
    failed: list[str] = field(default_factory=list)
    """What broke, though the machine has it; some older parts tell of it in what is missing."""
    asked: str = ""
    """The options of `make bench` that measure this part in the same way; older parts have none."""

    @classmethod
    def begin(cls, name: str, quick: bool, asked: str) -> "Part":
        when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return cls(name, _commit(), _machine(), when, quick, asked=asked)

    @property
    def rounds(self) -> int:
        return max((len(figure.rounds) for figure in self.figures), default=0)

    @property
    def with_changes(self) -> bool:
        return self.commit.endswith(_CHANGED)

    def find(self, run: str, who: str, what: str, shape: str = "") -> Figure | None:
        for figure in self.figures:
            if (figure.run, figure.who, figure.what, figure.shape) == (run, who, what, shape):
                return figure
        return None


def added_up(figures: Sequence[Figure]) -> Figure:
    """Figures with as many rounds each, round by round; named as the first of them."""
    rounds = [sum(column) for column in zip(*(each.rounds for each in figures), strict=True)]
    return replace(figures[0], rounds=rounds)


class Results:
    """Parts by their name; those of a later run take the place of earlier ones."""

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self._parts = {part.name: part for part in parts}

    @classmethod
    def load(cls, place: Path) -> "Results":
        """Empty if there is no such file."""
        if not place.exists():
            return cls()
        return cls(_read(line) for line in place.read_text().splitlines())

    def save(self, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(asdict(part)) for part in self._parts.values())
        place.write_text("".join(f"{line}\n" for line in lines))

    def add(self, part: Part) -> None:
        self._parts[part.name] = part

    def __iter__(self) -> Iterator[Part]:
        return iter(self._parts.values())

    def part(self, name: str) -> Part | None:
        return self._parts.get(name)

    def find(self, part: str, run: str, who: str, what: str, shape: str = "") -> Figure | None:
        found = self._parts.get(part)
        return found.find(run, who, what, shape) if found else None


def _read(line: str) -> Part:
    told = json.loads(line)
    figures = [Figure(**figure) for figure in told.pop("figures")]
    return Part(figures=figures, **told)


def changed_files() -> list[str]:
    """Lines of ``git status`` about what is not committed, but for what a run itself writes."""
    looked_at = ("--untracked-files=no", "--", ".", ":!docs", ":!bench/results.jsonl")
    return _git("status", "--porcelain", *looked_at).splitlines()


def _commit() -> str:
    return (_git("rev-parse", "--short", "HEAD") or "no commit") + (
        _CHANGED if changed_files() else ""
    )


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, grpcio {version('grpcio')}, "
        f"protobuf {version('protobuf')}"
    )
