"""How many files, connections among them, a broker may have open.

Shells start programs with a limit of 1,024, which is meant for those that use select(); any program
may raise its own to the hard limit, and one that serves many connections has to.
"""

# Python imports it when a thread is first asked for, which may be when no file can be opened.
import concurrent.futures.thread  # noqa: F401 -- for that alone
import errno
import sys
from pathlib import Path
from typing import BinaryIO

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


def open_to_read(path: Path) -> BinaryIO:
    """A file, out of those that are reserved if need be. Raises OSError."""
    try:
        return path.open("rb")
    except OSError as error:
        if error.errno != errno.EMFILE or sys.platform == "win32":
            raise
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # One more at a time, and for no longer than it takes: connections wait for them, too.
        for most in range(soft + 1, hard + 1):
            _limit(most)
            try:
                return path.open("rb")
            except OSError as again:
                if again.errno != errno.EMFILE:
                    raise
            finally:
                _limit(soft)
        raise


def read_bytes(path: Path) -> bytes:
    """All of it; as :func:`open_to_read`."""
    with open_to_read(path) as file:
        return file.read()


def _limit(most: int) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS has a hard limit that it does not take
        return
