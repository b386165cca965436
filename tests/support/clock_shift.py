"""The wall clock of programs that tests start, set while they run.

A clock is a small file that the programs under it have mapped, by way of a library that a C
compiler makes when it is first needed (clock_shift.c). Monotonic clocks go on undisturbed.
"""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")
HOUR = 3600.0


class ShiftedClock:
    """The clock of every program that is started with its :attr:`environment`."""

    def __init__(self, folder: Path) -> None:
        """``folder``: where its file and the library are kept; the account of the programs has to
        reach it. Skips the test where there is no C compiler."""
        self._library = _library(folder)
        self._file = folder / f"clock-{os.urandom(4).hex()}"
        self._file.write_bytes(struct.pack("=q", 0))
        self._file.chmod(0o644)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CLOCK_SHIFT_FILE": str(self._file)}

    def set_ahead(self, seconds: float) -> None:
        """Sets the clock to so many seconds ahead of the machine's; negative: behind it."""
        with self._file.open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", round(seconds * 1e9)))


def _library(folder: Path) -> Path:
    library = folder / "clock_shift.so"
    if library.exists():
        return library
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("setting the clock of a program needs Linux and a C compiler (cc)")
    options = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    done = subprocess.run(
        [compiler, *options, "-o", str(library), str(SOURCE), "-ldl", "-lpthread"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    library.chmod(0o755)
    return library
