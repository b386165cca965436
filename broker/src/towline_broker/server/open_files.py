"""How many files, connections among them, a broker may have open.

Shells start programs with a limit of 1,024, which is meant for those that use select(); any program
may raise its own to the hard limit, and one that serves many connections has to.
"""

import sys


def allow_many() -> None:
    """Raises the limit of this process as far as it may. Where that fails, it stays as it is."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS has a hard limit that it does not take
            return
