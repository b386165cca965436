"""What the kernel is asked for, seen from outside by strace."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Everything by which a program may change files.
CHANGING = (
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "fsync", "fdatasync", "msync"),
    *("sync_file_range", "ftruncate", "truncate", "fallocate", "copy_file_range", "sendfile"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir"),
    *("mkdirat", "openat", "creat"),
)
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")


class NoStrace(Exception):
    """The message says what is missing."""


def changing_calls(
    command: Sequence[str], environment: Mapping[str, str], path: str, folder: Path
) -> tuple[list[str], str]:
    """The names of the calls that change files, in their order, of those with a path that matches
    the expression; and what the command printed. ``environment``: what it has beside ours; what
    strace writes goes to the folder. Raises NoStrace."""
    strace = shutil.which("strace")
    if strace is None:
        raise NoStrace("there is no strace")
    log = folder / "strace.log"
    given = [part for name, value in environment.items() for part in ("-E", f"{name}={value}")]
    # -y: descriptors with their paths.
    traced = [strace, "-f", "-y", "-o", str(log), "-e", f"trace={','.join(CHANGING)}", *given]
    done = subprocess.run(
        [*traced, *command], capture_output=True, text=True, timeout=120, check=False
    )
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        raise NoStrace(f"strace may not be used here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    names = []
    for line in log.read_text(errors="replace").splitlines():
        call = _CALL.match(line)
        makes_no_file = "openat(" in line and "O_CREAT" not in line
        if call is not None and re.search(path, line) and not makes_no_file:
            names.append(call[1])
    return names, done.stdout
