"""Programs of process_program, for the length of a `with` block, and processes in general."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from tests.sdk.fake_broker import PATIENCE, FakeBroker

ROOT = Path(__file__).parents[2]


class Program:
    """A worker in a session of its own, as if it had a terminal of its own."""

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the program
        self._said = b""
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.sdk.process_program",
                address,
                json.dumps(options),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self._stdout = self.process.stdout

    def hears(self, start: str) -> list[str]:
        """Wait for a line that starts so; return the words of the rest of it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for line in self._lines(deadline):
                if line.startswith(start):
                    return line.removeprefix(start).split()

    def _lines(self, deadline: float) -> Iterator[str]:
        """The lines that are there; if there are none, waits for more."""
        while b"\n" not in self._said:
            ready, _, _ = select.select([self._stdout], [], [], deadline - time.monotonic())
            data = os.read(self._stdout.fileno(), 65536) if ready else b""
            assert data, f"it was not said in time, or it has ended:\n{self.log}"
            self._said += data
        while b"\n" in self._said:
            line, _, self._said = self._said.partition(b"\n")
            yield line.decode()

    @property
    def log(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read()

    @property
    def pid(self) -> int:
        return self.process.pid

    def descendants(self) -> list[int]:
        return [each.pid for each in psutil.Process(self.pid).children(recursive=True)]

    def ends(self, code: int = 0) -> list[str]:
        """Wait for its end; return the lines that it has said since."""
        out, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == code, self.log
        return (self._said + out).decode().splitlines()

    def close(self) -> None:
        left = [] if self.process.poll() is not None else self.descendants()
        self.process.kill()
        self.process.wait()
        self._stdout.close()
        self._stderr.close()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def program(broker: FakeBroker | str, **options: Any) -> Iterator[Program]:
    address = broker if isinstance(broker, str) else broker.address
    running = Program(address, options)
    try:
        yield running
    finally:
        running.close()


def add(broker: FakeBroker, type: str, fields: dict[str, Any] | None = None, **options: Any) -> str:
    """Make a job ready, with its fields; return its id."""
    return broker.add(type, json.dumps(fields or {}).encode(), **options)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)
