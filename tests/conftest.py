"""Settings for all tests: Hypothesis on a shared machine, Ctrl-C, and what happens to a test that
hangs.

A hanging test fails with the stacks of all its threads and asyncio tasks, and its teardown runs, so
that the processes it started are stopped. pytest-timeout alone would lose those stacks: it prints
them where pytest-xdist's worker processes have no terminal, and knows nothing of tasks.
"""

import asyncio
import faulthandler
import os
import signal
import sys
import threading
import traceback
from types import CoroutineType, FrameType

import pytest
from hypothesis import HealthCheck, settings

# No deadline per example: how fast a busy machine answers is not what these tests promise, and a
# hang is caught below. A failure prints the blob that replays it.
settings.register_profile(
    "towline",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("towline")

# How long a test that was told of its timeout has to end before its process is killed, in seconds.
GRACE = 30.0
STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    # A copy, taken while output is not captured: a process about to be killed cannot hand on what
    # pytest captured.
    config.stash[STDERR] = os.dup(2)
    # Who starts it in the background, or with nohup, makes it so, and programs inherit that.
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_timeout_set_timer(item: pytest.Item, settings: object) -> bool:
    """Start the timer of one test, in place of pytest-timeout's own (`--timeout 0`: none)."""
    seconds = float(settings.timeout)  # type: ignore[attr-defined]  # its class is not typed

    def fail_the_test(signum: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        pytest.fail(f"no end after {seconds:g} s\n{stacks()}", pytrace=False)

    signal.signal(signal.SIGALRM, fail_the_test)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    # The signal is not seen by a thread that is stuck in native code; this is.
    faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=item.config.stash[STDERR])
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()
    return True


def stacks() -> str:
    """The stacks of all threads and of the running loop's tasks, innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        stack = "".join(traceback.format_stack(frame)[-12:])
        parts.append(f"thread {names.get(ident, ident)}:\n{stack}")
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # no loop runs in this thread
        tasks = set()
    for task in tasks:
        summary = traceback.StackSummary.extract(
            (frame, frame.f_lineno) for frame in awaiting(task.get_coro())
        )
        parts.append(f"task {task.get_name()}:\n{''.join(summary.format())}")
    return "\n".join(parts)


def awaiting(awaitable: object) -> list[FrameType]:
    """The frames of a suspended coroutine and of the coroutines that it awaits."""
    frames = []
    while isinstance(awaitable, CoroutineType) and awaitable.cr_frame is not None:
        frames.append(awaitable.cr_frame)
        awaitable = awaitable.cr_await
    return frames
