"""The machine: its clock, and how many files a process may have open."""

import ctypes
import sys
from collections.abc import Iterator

from towline_broker.doctor.findings import Finding, ok, warning

#: Open files that a broker should be allowed: each connection of a client is one.
FILES = 10_000
#: What adjtimex answers when nothing keeps the clock in step (adjtimex(2): TIME_ERROR).
_NOT_IN_STEP = 5
#: Larger than its struct timex on any platform.
_TIMEX_BYTES = 512


def look_at() -> Iterator[Finding]:
    yield from _open_files()
    yield from _clock()


def _open_files() -> Iterator[Finding]:
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= FILES:
        yield ok("open files", f"up to {hard if hard >= 0 else 'any number'}")
        return
    yield warning(
        "open files",
        f"a process may have {hard} open, and each connection of a client is one",
        "raise the hard limit: LimitNOFILE= of systemd, --ulimit nofile= of a container, "
        "or ulimit -Hn",
    )


def _clock() -> Iterator[Finding]:
    answer = _adjtimex()
    if answer is None:
        return
    if answer == _NOT_IN_STEP:
        yield warning(
            "clock",
            "nothing keeps the clock of this machine in step: delays, and leases of a store in "
            "files, go by it",
            "run chrony, systemd-timesyncd or the like; a virtual machine may be kept in step by "
            "its host, without this being seen",
        )
    else:
        yield ok("clock", "kept in step")


def _adjtimex() -> int | None:
    """The state of the clock; None: it cannot be asked for. Changes nothing: no mode is set."""
    if sys.platform != "linux":
        return None
    try:
        function = ctypes.CDLL(None).adjtimex
    except (AttributeError, OSError):
        return None
    answer = int(function(ctypes.create_string_buffer(_TIMEX_BYTES)))
    return answer if answer >= 0 else None
