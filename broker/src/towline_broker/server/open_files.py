"""How many files, connections among them, a broker may have open.

Shells start programs with a limit of 1,024, which is meant for those that use select(); any program
may raise its own to the hard limit, and one that serves many connections has to.
"""

# Python imports it when a thread is first asked for, which may be when no file can be opened.
import concurrent.futures.thread  # noqa: F401 -- for that alone
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Of a process that serves, for files that it has to read though connections have taken all others:
#: whoever holds enough of those could otherwise keep a token from being revoked.
RESERVED = 16


def allow_many() -> None:
    """Raises the limit of this process as far as it may, but for those that are reserved. Where
    that fails, it stays as it is."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard == resource.RLIM_INFINITY else max(1, hard - RESERVED)
    _limit(most)


@contextmanager
def reserve() -> Iterator[None]:
    """Inside, a file can be opened that is reserved: by this thread, or by whatever else of this
    process is quicker."""
    if sys.platform == "win32":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    _limit(hard)
    try:
        yield
    finally:
        _limit(soft)


def _limit(most: int) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS has a hard limit that it does not take
        return
