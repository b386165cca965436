"""What has to be made anew in a process that was forked off, where no thread of its parent runs."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_forked_children(begin_anew: Callable[[], None]) -> None:
    """Have it called in every process that is forked off this one, before anything else there."""
    if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
        os.register_at_fork(after_in_child=begin_anew)
