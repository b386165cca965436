"""A process without privileges, to which everything but one folder is read-only."""

import ctypes
import os
import sys
from pathlib import Path

import pytest

#: prctl(2): what was made writable is never executed. It outlives an exec.
_PR_SET_MDWE, _REFUSE_EXEC_GAIN = 65, 1

#: The folder is entered anew: where the process comes from is read-only too.
_SCRIPT = """
mount --bind "$0" "$0" && mount -o remount,bind,ro / && cd "$0" &&
    exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""


def run_by(folder: Path, *, deny_write_execute: bool = False) -> list[str]:
    """The command that runs another one so. Without root, which it takes, the test is skipped; in
    CI it is not."""
    if os.geteuid() != 0 and os.environ.get("CI") != "true":
        pytest.skip("needs root")
    more = [sys.executable, __file__] if deny_write_execute else []
    namespace = ["unshare", "--mount", "--propagation", "private"]
    return [*namespace, "sh", "-c", _SCRIPT, str(folder), *more]


def _deny_write_execute() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0):
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}; needs Linux 6.3")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    _deny_write_execute()
