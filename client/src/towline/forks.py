"""What rests while a process is forked, and what begins anew in the one that was forked off, where
no thread of its parent runs."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_forked_children(begin_anew: Callable[[], None]) -> None:
    """Have it called in every process that is forked off this one, before anything else there."""
    if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
        os.register_at_fork(after_in_child=begin_anew)


def around_forks(rest: Callable[[], None], go_on: Callable[[], None]) -> None:
    """Have ``rest`` called before this process is forked, and ``go_on`` in this one afterwards."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=rest, after_in_parent=go_on)
