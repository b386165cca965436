"""Counting what Python executes, in every thread: the same code counts the same on any machine,
however busy it is.

Each line that is run counts as many bytecode instructions as it is made of. (To look at each single
one takes five times as long, and tells the same.) Left out is what depends on who comes first:
event loops, threads, locks, and gRPC with its own loop; and whatever is in ``bench``.
"""

import asyncio
import concurrent.futures
import dis
import queue
import selectors
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import grpc

#: Files and folders whose code is not counted.
_LEFT_OUT = (
    str(Path(asyncio.__file__).parent),
    str(Path(concurrent.futures.__file__).parent),
    str(Path(grpc.__file__).parent),
    str(Path(__file__).parents[1]),
    *(queue.__file__, selectors.__file__, threading.__file__),
    "<frozen importlib",
)
#: SQLite tells of each so many steps.
_STEPS = 10

#: How many instructions each line of a piece of code has.
Lines = dict[int, int]


class Taken(NamedTuple):
    instructions: int
    sqlite_steps: int
    """Of the machine that SQLite's statements are made for."""

    def since(self, earlier: "Taken") -> "Taken":
        return Taken(
            self.instructions - earlier.instructions, self.sqlite_steps - earlier.sqlite_steps
        )


class Counter:
    """Counts what is executed while :meth:`counting`, by threads and coroutines that began then."""

    def __init__(self) -> None:
        self._instructions = 0
        self._sqlite_steps = 0
        self._lines: dict[CodeType, Lines | None] = {}

    @property
    def taken(self) -> Taken:
        return Taken(self._instructions, self._sqlite_steps)

    @contextmanager
    def counting(self) -> Iterator[None]:
        connect = sqlite3.connect
        sqlite3.connect = self._connect  # type: ignore[assignment]  # has no overloads
        threading.settrace(self._entered)
        sys.settrace(self._entered)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)
            sqlite3.connect = connect

    def _entered(self, frame: FrameType, event: str, _: Any) -> Any:
        """Called at each call of a function, and when a coroutine goes on."""
        code = frame.f_code
        if code not in self._lines:
            left_out = code.co_filename.startswith(_LEFT_OUT)
            self._lines[code] = None if left_out else _lines_of(code)
        return None if self._lines[code] is None else self._ran

    def _ran(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            lines = self._lines[frame.f_code]
            if lines is not None:
                self._instructions += lines.get(frame.f_lineno, 1)
        return self._ran

    def _connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = sqlite3.Connection(*arguments, **options)
        connection.set_progress_handler(self._stepped, _STEPS)
        return connection

    def _stepped(self) -> int:
        self._sqlite_steps += _STEPS
        return 0


def _lines_of(code: CodeType) -> Lines:
    lines: Lines = {}
    for instruction in dis.get_instructions(code):
        if instruction.positions is not None and instruction.positions.lineno is not None:
            line = instruction.positions.lineno
            lines[line] = lines.get(line, 0) + 1
    return lines
