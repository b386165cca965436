"""How things look: tables, pairs, JSON, progress bars and questions.

Results go to standard output, everything said about them to standard error. On a terminal tables
are drawn by rich; through a pipe they are plain text in columns, one line for each row, so that
grep, awk and diff can work on them. Whatever came from a broker is shown with its control
characters escaped: a failure's message must not be able to move the cursor.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from towline.cli.exits import Failed, UsageError

STYLES = {
    "SCHEDULED": "cyan",
    "READY": "blue",
    "LEASED": "yellow",
    "SUCCEEDED": "green",
    "DEAD": "red",
    "CANCELLED": "magenta",
    "paused": "yellow",
}


_GAP = 2
_LEAST = 12


@dataclass(frozen=True)
class Column:
    header: str
    align: Literal["left", "right"] = "left"
    style: str = ""
    #: Cut with an ellipsis where the terminal is too narrow. A pipe always gets the whole text.
    shrinks: bool = False


def number(header: str) -> Column:
    return Column(header, align="right")


def clean(text: str) -> str:
    """Return the text in one line, with everything unprintable escaped."""
    flat = text.replace("\n", " ")
    if flat.isprintable():
        return flat
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in flat
    )


def say(text: str) -> None:
    """Write one line to standard output."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Write one line about the result to standard error."""
    sys.stderr.write(text + "\n")


def complain(text: str) -> None:
    note(f"towline: {clean(text)}")


def document(data: Any) -> None:
    """Write one JSON document: indented on a terminal, in one line through a pipe."""
    if sys.stdout.isatty():
        say(json.dumps(data, ensure_ascii=False, indent=2))
    else:
        line(data)


def line(data: Any) -> None:
    """Write one line of JSON lines."""
    say(json.dumps(data, ensure_ascii=False, separators=(",", ":")))


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, folds: bool = False) -> None:
    """Write a table. One that ``folds`` is broken into several where the terminal is too narrow,
    each with the first column."""
    cells = [[clean(cell) for cell in row] for row in rows]
    lines = [[column.header for column in columns], *cells]
    widths = [max(cell_len(line[place]) for line in lines) for place in range(len(columns))]
    if not sys.stdout.isatty():
        _align(columns, lines, widths)
        return
    parts = _folded(widths, Console().width) if folds else [list(range(len(columns)))]
    for index, part in enumerate(parts):
        if index:
            say("")
        _draw([columns[place] for place in part], [[row[place] for place in part] for row in cells])


def _folded(widths: Sequence[int], room: int) -> list[list[int]]:
    """The places of the columns that stand beside each other, in tables that fit into ``room``."""
    parts = [[0]]
    taken = widths[0]
    for place, width in enumerate(widths[1:], 1):
        if taken + _GAP + width > room and len(parts[-1]) > 1:
            parts.append([0])
            taken = widths[0]
        parts[-1].append(place)
        taken += _GAP + width
    return parts


def _draw(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    room = Console().width
    drawn = drawn_table(columns, rows, room)
    # What does not shrink is wrapped by a narrow terminal, not cut: an id is there to be copied.
    needed = sum(each.width or 0 for each in drawn.columns) + _gaps(columns)
    Console(width=max(room, needed)).print(drawn)


def drawn_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int | None
) -> Table:
    """Return a table of clean cells for a terminal of so many columns (None: as wide as it is)."""
    lines = [[column.header for column in columns], *rows]
    widths = [max(cell_len(line[place]) for line in lines) for place in range(len(columns))]
    missing = 0 if room is None else sum(widths) + _gaps(columns) - room
    drawn = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        shrunk = (
            min(width, max(_LEAST, width - missing)) if column.shrinks and missing > 0 else width
        )
        missing -= width - shrunk
        drawn.add_column(
            column.header,
            justify=column.align,
            style=column.style,
            width=shrunk,
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        drawn.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    return drawn


def _gaps(columns: Sequence[Column]) -> int:
    return _GAP * (len(columns) - 1)


def _align(
    columns: Sequence[Column], lines: Sequence[Sequence[str]], widths: Sequence[int]
) -> None:
    for cells in lines:
        padded = (
            " " * (width - cell_len(cell)) + cell
            if column.align == "right"
            else cell + " " * (width - cell_len(cell))
            for cell, width, column in zip(cells, widths, columns, strict=True)
        )
        say("  ".join(padded).rstrip())


def pairs(rows: Mapping[str, str]) -> None:
    """Write names and values below each other, those without a value left out."""
    shown = {name: clean(value) for name, value in rows.items() if value}
    width = max(map(len, shown), default=0)
    console = Console(highlight=False, soft_wrap=True)
    for name, value in shown.items():
        if sys.stdout.isatty():
            label = Text(name.ljust(width + 2), style="dim")
            console.print(label + Text(value, style=STYLES.get(value, "")))
        else:
            say(f"{name.ljust(width)}  {value}")


def block(title: str, text: str) -> None:
    """Write a text of several lines below its title."""
    heading = Text(f"\n{title}", style="dim")
    Console(highlight=False).print(heading)
    for part in text.rstrip("\n").split("\n"):
        say("  " + clean(part.expandtabs(4)))


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error, if that is a terminal.

    Yields a function of (done, total) that moves it.
    """
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task(clean(label).replace("[", r"\["), total=total)
        yield lambda done, out_of: bar.update(task, completed=done, total=out_of)


@contextmanager
def waiting(label: str) -> Iterator[None]:
    """Show on standard error, if that is a terminal, that something is waited for."""
    with Console(stderr=True).status(clean(label)):
        yield


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be taken back. Raises Failed when the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"{question} Nobody is at the terminal to answer: add --yes, or --dry-run to look first"
        )
    if not typer.confirm(clean(question), err=True):
        raise Failed("nothing was changed")
