"""What stores on the disk of the broker have in common."""

import errno
import os
from pathlib import Path

from towline_broker.domain.errors import NoRoom, StoreError, StoreRefused

#: Modes of what holds jobs, whatever the umask: nobody else on the machine reads payloads.
PRIVATE = 0o600
PRIVATE_DIRECTORY = 0o700


#: With so little left it was for want of room, whatever the error says.
NOTHING = 64 * 1024


class Taken(StoreRefused):
    """There is something in the place of a copy that is to be made."""


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


def not_opened(path: Path, error: Exception, reason: object) -> StoreError:
    """What to raise of a store that could not be opened. A full disk is no refusal: once there is
    room, the store can be opened."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _is_full(path.parent):
        return NoRoom(f"{path} cannot be opened: the disk is full; make room")
    return StoreRefused(f"{path} cannot be opened: {reason}")


def _is_full(directory: Path) -> bool:
    try:
        return free_bytes(directory) <= NOTHING
    except OSError:
        return False
