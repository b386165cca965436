"""Calls of the operating system that fail, or are a process's last, at the Nth of them.

A small library (``failing_calls.c``) goes between a process and its C library. It sees every call
of all threads that changes a file under one directory: write, pwrite, fsync, fdatasync, ftruncate,
fallocate, rename, unlink, mkdir, and open where it may make a file.
"""

import ctypes
import os
import shutil
import subprocess
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("failing_calls.c")
VARIABLE = "FAILING_CALLS"
WRITES = ("write", "pwrite")
SYNCS = ("fsync", "fdatasync")
NEVER = 0
FOR_EVER = 1 << 40


class What(IntEnum):
    """What happens at the call that was named. The numbers are those of the library."""

    NOTHING = 0
    #: SIGKILL, before anything is done.
    KILL_BEFORE = 1
    #: SIGKILL, once it is done.
    KILL_AFTER = 2
    #: SIGKILL, once half of what was to be written is written.
    KILL_HALFWAY = 3
    #: Nothing is done, and an error returned.
    FAIL = 4
    #: Half of it is written, and that is returned.
    HALF = 5
    #: The same, and each later one fails.
    HALF_THEN_FAIL = 6


class NoCompiler(Exception):
    """The message says what is missing."""


def built(folder: Path) -> Path:
    """The library, compiled into the folder. Raises NoCompiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NoCompiler("there is no C compiler (cc)")
    library = folder / "failing_calls.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]
    done = subprocess.run(
        [*command, str(library), str(SOURCE)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise NoCompiler(f"{SOURCE.name} cannot be compiled: {done.stderr}")
    return library


def loaded(library: Path, **more: str) -> dict[str, str]:
    """The environment of a process that has it."""
    return {**os.environ, "LD_PRELOAD": str(library), **more}


def armed(under: Path, calls: str, what: What, error: int, first: int, last: int) -> dict[str, str]:
    """What to add to the environment of a process for which it begins to count at once; ``calls``:
    names with commas, or ``*``."""
    return {VARIABLE: f"{under} {calls} {int(what)} {error} {first} {last}"}


class Calls:
    """Of this process, which must have the library."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.calls_arm.argtypes = [
            *(ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
            *(ctypes.c_long, ctypes.c_long, ctypes.c_int),
        ]

    def arm(
        self,
        under: Path,
        what: What = What.NOTHING,
        *,
        error: int = 0,
        first: int = NEVER,
        last: int | None = None,
        log: int = -1,
    ) -> None:
        """Counts from here on; those from ``first`` to ``last`` (``first`` alone unless given) do
        it. What each one is goes to the file ``log``, a line for each."""
        through = first if last is None else last
        self._library.calls_arm(str(under).encode(), b"", int(what), error, first, through, log)
