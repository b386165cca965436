"""Running the targets epoch by epoch, and what comes of it as a table."""

import gc
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil  # type: ignore[import-untyped]

from tests.fuzz.calls import CallsTarget
from tests.fuzz.journal import JournalBytes, JournalRows
from tests.fuzz.parsers import all_parsers
from tests.fuzz.targets import Target
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import create_driver

#: Of all messages, how many of a hundred go to a target; the parsers share what is left.
SHARES = {
    "calls": 62,
    "calls over sqlite": 1,
    "calls over file": 2,
    "journal bytes": 8,
    "journal rows": 8,
}
#: What a process may grow by after its first epochs, whatever comes: 32 MiB.
MOST_GROWTH = 32 << 20
#: Epochs after which a process has loaded and cached what it needs.
WARM = 3


class Hang(KeyboardInterrupt):
    """An epoch did not come to its end. Of this kind because an event loop lets no other out."""


class _Places:
    """A new place for the store of each epoch, removed at the end."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __call__(self) -> Driver:
        if self._folder is not None:
            self._folder.cleanup()
        shm = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None)
        return create_driver(self._url.format(self._folder.name))


def all_targets() -> list[Target]:
    return [
        CallsTarget(),
        CallsTarget("calls over sqlite", _Places("sqlite:///{}/jobs.db"), 1_000),
        CallsTarget("calls over file", _Places("file:///{}/store"), 1_000),
        JournalBytes(),
        JournalRows(),
        *all_parsers(),
    ]


@dataclass
class Line:
    """What is known of one target."""

    messages: int = 0
    seconds: float = 0.0
    growth: int = 0
    answers: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Line") -> "Line":
        return Line(
            self.messages + other.messages,
            self.seconds + other.seconds,
            max(self.growth, other.growth),
            self.answers + other.answers,
        )


@dataclass
class Report:
    lines: dict[str, Line] = field(default_factory=dict)
    #: What each failure says.
    found: list[str] = field(default_factory=list)

    def __add__(self, other: "Report") -> "Report":
        names = [*self.lines, *(name for name in other.lines if name not in self.lines)]
        return Report(
            {n: self.lines.get(n, Line()) + other.lines.get(n, Line()) for n in names},
            self.found + other.found,
        )

    @property
    def messages(self) -> int:
        return sum(line.messages for line in self.lines.values())

    def figures(self, seconds: float) -> dict[str, object]:
        return {
            "messages": self.messages,
            "seconds": round(seconds),
            "most_growth_mib": round(max(line.growth for line in self.lines.values()) / 2**20, 1),
            "found": len(self.found),
        }

    def table(self, seconds: float) -> str:
        head = f"{'target':22} {'messages':>12} {'a second':>10} {'growth':>9}  answers"
        rows = [_row(name, line) for name, line in self.lines.items()]
        total = f"{self.messages:,} messages in {seconds:,.0f} s, {len(self.found)} found"
        return "\n".join((head, *rows, total))


def _row(name: str, line: Line) -> str:
    by_code: Counter[str] = Counter()
    for answer, count in line.answers.items():
        by_code[answer.rpartition(" ")[2]] += count
    answers = ", ".join(f"{count:,} {code}" for code, count in by_code.most_common(4))
    rate = line.messages / line.seconds if line.seconds else 0
    return (
        f"{name:22} {line.messages:>12,} {rate:>10,.0f} {line.growth / 2**20:>5.1f} MiB  {answers}"
    )


def run_share(
    seed: int,
    messages: int,
    only: str,
    number: int,
    shares: int,
    epoch: int | None,
    alive: Callable[[], None],
) -> Report:
    """Every so manieth epoch of each target. ``alive`` is called before each."""
    report = Report()
    targets = [target for target in all_targets() if only in ("", target.name)]
    for target in targets:
        line = report.lines[target.name] = Line()
        wanted = messages if only else _share_of(target.name, messages, len(targets))
        epochs = range(number, -(-wanted // target.size), shares) if epoch is None else [epoch]
        settled = 0
        for done, each in enumerate(epochs):
            alive()
            count = (
                target.size if epoch is not None else min(target.size, wanted - each * target.size)
            )
            began = time.process_time()
            try:
                line.answers += target.epoch(Random(f"{seed}/{target.name}/{each}"), count)
            except (Exception, Hang) as error:
                report.found.append(_again(seed, target.name, each, error))
            line.seconds += time.process_time() - began
            # The file store sets aside what there is when it has been read, for a broker has one;
            # here it would be whatever earlier epochs have left to be collected.
            gc.unfreeze()
            gc.collect()
            line.messages += count
            if done == WARM:
                settled = _memory()
        if settled:
            line.growth = _memory() - settled
            if line.growth > MOST_GROWTH:
                report.found.append(f"{target.name}: grew by {line.growth >> 20} MiB, seed {seed}")
    return report


def _share_of(name: str, messages: int, targets: int) -> int:
    rest = (100 - sum(SHARES.values())) / max(targets - len(SHARES), 1)
    return round(messages * SHARES.get(name, rest) / 100)


def _again(seed: int, name: str, epoch: int, error: BaseException) -> str:
    command = f"python -m tests.fuzz --seed {seed} --target '{name}' --epoch {epoch} --processes 1"
    return f"{error if str(error) else type(error).__name__}\n  again: {command}"


def _memory() -> int:
    gc.collect()
    size: int = psutil.Process().memory_info().rss
    return size
