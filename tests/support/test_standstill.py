"""A test of promptness knows how long its machine stood still."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest

from tests.support.standstill import Standstill

ROOT = Path(__file__).parents[2]
STOPPED = 0.7
PROGRAM = """
from tests.support.standstill import Standstill

with Standstill() as standstill:
    print("looks", flush=True)
    input()
print(standstill.longest)
"""


def test_a_process_that_was_stopped_has_stood_still() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "looks\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED)
        process.send_signal(signal.SIGCONT)
        told, _ = process.communicate("\n")
    assert float(told) > STOPPED / 2


def test_a_disk_that_does_not_answer_has_stood_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Event()

    def slow_sync(_: int) -> None:
        if not asked.is_set():
            asked.set()
            time.sleep(STOPPED)

    monkeypatch.setattr("os.fsync", slow_sync)
    with Standstill(tmp_path) as standstill:
        assert asked.wait(5)
    assert standstill.longest > STOPPED / 2
