"""The clock that tests set is the wall clock of the programs under it, and no other clock."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.clock_shift import HOUR, ShiftedClock

#: Answers each line with its clocks.
CLOCKS = """
import sys, time, datetime
for _ in sys.stdin:
    print(time.time(), datetime.datetime.now().timestamp(), time.clock_gettime(time.CLOCK_REALTIME),
          time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
"""
#: By the C library: says when it begins to wait on a condition, and how often it was woken until
#: its time had come. The time is by the wall clock, so many seconds away.
WAITS = """
import ctypes, platform, sys, time
class Time(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]
libc = ctypes.CDLL(None)
until = time.time() + float(sys.argv[1])
at = Time(int(until), int(until % 1 * 1e9))
memory = ctypes.create_string_buffer(1024)
print("waits", flush=True)
if sys.argv[2] == "condition":
    condition, mutex = ctypes.byref(memory), ctypes.byref(memory, 512)
    libc.pthread_mutex_lock(mutex)
    while libc.pthread_cond_timedwait(condition, mutex, ctypes.byref(at)) == 0:
        pass
elif sys.argv[2] == "semaphore":
    libc.sem_timedwait(ctypes.byref(memory), ctypes.byref(at))
else:
    number = {"x86_64": 202, "aarch64": 98}[platform.machine()]
    wait = 9 | 256  # FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME
    while time.time() < until:
        libc.syscall(ctypes.c_long(number), ctypes.byref(memory), ctypes.c_long(wait),
                     ctypes.c_long(0), ctypes.byref(at), None, ctypes.c_long(-1))
"""


@pytest.fixture
def clock(tmp_path: Path) -> ShiftedClock:
    return ShiftedClock(tmp_path)


@contextmanager
def program(clock: ShiftedClock, text: str, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=clock.environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def clocks_of(process: "subprocess.Popen[str]") -> list[float]:
    """By how much each is ahead of ours: three of the wall clock, and two others."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    told = [float(word) for word in process.stdout.readline().split()]
    ours = [time.time()] * 3 + [time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)]
    return [one - other for one, other in zip(told, ours, strict=True)]


def test_the_wall_clock_of_a_running_program_is_set_and_no_other(clock: ShiftedClock) -> None:
    with program(clock, CLOCKS) as process:
        for ahead in (0.0, HOUR, -HOUR, 0.0):
            clock.set_ahead(ahead)
            assert clocks_of(process) == pytest.approx([ahead] * 3 + [0.0] * 2, abs=0.5)


def test_each_clock_is_for_its_own_programs(clock: ShiftedClock, tmp_path: Path) -> None:
    with program(clock, CLOCKS) as one, program(ShiftedClock(tmp_path), CLOCKS) as other:
        clock.set_ahead(HOUR)
        assert clocks_of(one)[0] == pytest.approx(HOUR, abs=0.5)
        assert clocks_of(other)[0] == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("how", ["condition", "semaphore", "futex"])
def test_who_waits_for_a_time_of_the_wall_clock_goes_by_it(clock: ShiftedClock, how: str) -> None:
    clock.set_ahead(-HOUR)
    with program(clock, WAITS, "1800", how) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        clock.set_ahead(0)
        assert process.wait(10) == 0


def test_without_a_compiler_tests_of_clocks_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match="a C compiler"):
        ShiftedClock(tmp_path)
