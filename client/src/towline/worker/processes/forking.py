"""Forking a process that goes on with a function of its own, and checks whether that is safe."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from towline import channel
from towline.errors import ConfigurationError
from towline.worker.signals import STOP_SIGNALS, is_heeded

logger = logging.getLogger("towline.worker")

_HELD_BACK = (*STOP_SIGNALS, signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else STOP_SIGNALS
_PR_SET_PDEATHSIG = 1
_GRPC_THREADS = frozenset({"event_engine", "grpc_global_tim"})


def check(setting: str, way_out: str) -> None:
    """Raises ConfigurationError, naming ``setting``, if this process must not be forked."""
    if not hasattr(os, "fork"):
        raise ConfigurationError(
            f'{setting}: processes cannot be forked on {sys.platform}; use pool="thread"'
        )
    if channel.opened() or _grpc_runs():
        raise ConfigurationError(
            f"{setting}: this process has opened a gRPC channel already, and cannot be forked "
            f"safely any more; {way_out}"
        )
    others = [thread.name for thread in threading.enumerate() if thread.is_alive()]
    others.remove(threading.current_thread().name)
    if others:
        logger.warning(
            "forking while other threads run (%s): a lock that one of them holds at this moment "
            "stays locked in the new process; start the worker first",
            ", ".join(others[:5]),
        )


def _grpc_runs() -> bool:
    """Whether gRPC has threads here, for a channel that is not the SDK's. Told on Linux only."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        return False
    for task in tasks.iterdir():
        try:
            name = (task / "comm").read_text().strip()
        except OSError:  # it has just ended
            continue
        if name in _GRPC_THREADS:
            return True
    return False


def fork_process(main: Callable[[], int]) -> int:
    """Fork; the new process calls ``main``, ends with the exit code that it returns, and never
    comes back here. Returns its id. Raises OSError when the system has no room for it.

    It starts without the parent's handling of signals: those that stop a worker do nothing. What
    the parent has registered to happen at its exit does not happen there.
    """
    flush_output()
    # One that came before the copy has handlers of its own would be taken for the parent's.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    if pid == 0:
        code = 1
        try:
            _forget_parent()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            code = main()
        except BaseException:  # whatever it is, it must not reach what the parent was doing
            traceback.print_exc()
        finally:
            flush_output()
            os._exit(code)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def _forget_parent() -> None:
    signal.set_wakeup_fd(-1)
    for number in filter(is_heeded, STOP_SIGNALS):
        # Not SIG_IGN, which the programs that a handler starts would inherit.
        signal.signal(number, _do_nothing)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asyncio._set_running_loop(None)  # it may have been forked from inside of one
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


def flush_output() -> None:
    """What a stream still holds would else be written by both processes, or by none."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # none, gone, or closed
            continue


def die_with(parent: int) -> None:
    """Have this process killed when ``parent``, which forked it, ends. Linux only."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended before
        os._exit(1)
