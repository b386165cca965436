"""The bugs that are planted, as ``bugs/*.md`` tell them.

Each stands under a heading that is its name: what it breaks and what must find it, a sentence, the
file, and the change as a diff. The lines of the diff that begin with a space or a minus have to
stand in the file exactly once, as they are: the catalogue cannot fall behind the code unnoticed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BUGS = Path(__file__).parent / "bugs"

PROMISES = (*(f"P{number}" for number in range(1, 12)), "Stats")

_ENTRY = re.compile(
    r"(?P<name>[a-z0-9-]+)\n\n"
    r"Breaks (?P<breaks>\w+)\. Found by: (?P<found_by>[a-z0-9-]+(?:, [a-z0-9-]+)*)\.\n\n"
    r"(?P<what>[^`]+)\n\n"
    r"`(?P<file>[\w/.]+)`\n"
    r"```diff\n(?P<diff>.+?)```\n*",
    re.DOTALL,
)


class Outdated(Exception):
    """The code does not hold what a bug is to be planted in."""


@dataclass(frozen=True, slots=True)
class Bug:
    name: str
    #: One of PROMISES.
    breaks: str
    #: Names of detectors, in the order in which they are to be tried.
    found_by: tuple[str, ...]
    what: str
    #: Under the root of the repository.
    file: str
    #: What stands there, and what takes its place.
    changes: tuple[tuple[str, str], ...]

    def planted_in(self, text: str) -> str:
        """The text of the file with the bug. Raises Outdated."""
        for old, new in self.changes:
            count = f"\n{text}".count(f"\n{old}")
            if count != 1:
                raise Outdated(
                    f"{self.name}: in {self.file} this stands {count} times, not once:\n{old}"
                )
            at = f"\n{text}".index(f"\n{old}")
            text = text[:at] + new + text[at + len(old) :]
        return text


def load() -> list[Bug]:
    """All of them. Raises ValueError for an entry that is not of the form."""
    bugs = [bug for path in sorted(BUGS.glob("*.md")) for bug in _entries(path)]
    names = [bug.name for bug in bugs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"there are two bugs of one name: {', '.join(sorted(twice))}")
    return bugs


def _entries(path: Path) -> Iterator[Bug]:
    _, *entries = path.read_text(encoding="utf-8").split("\n## ")
    for entry in entries:
        match = _ENTRY.fullmatch(entry)
        title = entry.partition("\n")[0]
        if match is None:
            raise ValueError(f"{path.name}: the entry {title!r} is not of the form")
        if match["breaks"] not in PROMISES:
            raise ValueError(f"{path.name}: {title} breaks {match['breaks']!r}, no such promise")
        yield Bug(
            match["name"],
            match["breaks"],
            tuple(match["found_by"].split(", ")),
            " ".join(match["what"].split()),
            match["file"],
            tuple(_change(part) for part in match["diff"].split("@@\n")),
        )


def _change(diff: str) -> tuple[str, str]:
    lines = diff.splitlines(keepends=True)
    old = "".join(line[1:] or "\n" for line in lines if line[0] != "+")
    new = "".join(line[1:] or "\n" for line in lines if line[0] != "-")
    return old, new
