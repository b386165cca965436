"""What stores on the disk of the broker have in common."""

import os
from pathlib import Path

#: Modes of what holds jobs, whatever the umask: nobody else on the machine reads payloads.
PRIVATE = 0o600
PRIVATE_DIRECTORY = 0o700


def sync(path: Path) -> None:
    """Flushes a file or a directory to the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def free_bytes(directory: Path) -> int:
    """What the file system of the directory has left for ordinary users."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
