"""`--reload`: the same command again whenever a file of the program changes. For development."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from towline.cli import output
from towline.cli.exits import UsageError


def run_again_on_change(arguments: Sequence[str], drain_seconds: float) -> None:
    """Run `towline` with these arguments, and anew after each change of a Python file below the
    working directory, until Ctrl-C. Jobs that run then have ``drain_seconds`` to end.

    Raises UsageError when the extra is missing.
    """
    try:
        from watchfiles import PythonFilter, run_process
    except ImportError:
        raise UsageError(
            "--reload: needs the package watchfiles: pip install 'towline[cli,reload]'"
        ) from None
    command = shlex.join([sys.executable, "-m", "towline.cli", *arguments])
    folder = Path.cwd()
    output.note(f"watching {folder} for changes")
    run_process(
        folder,
        target=command,
        target_type="command",
        watch_filter=PythonFilter(),
        # And some for what is cancelled at the end of them to be told to the broker.
        sigint_timeout=int(drain_seconds) + 5,
        sigkill_timeout=5,
        callback=lambda changes: output.note(
            "changed: " + ", ".join(sorted({os.path.relpath(path) for _, path in changes}))
        ),
    )
