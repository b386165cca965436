"""File systems of their own, in images: to be cut off as if the power went, or filled up.

Both need root.
"""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

MIB = 1024 * 1024
#: Of Linux: shut down, and write nothing more, not even the file system's own journal.
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = struct.pack("I", 2)


class NoDisk(Exception):
    """The message says what is missing."""


class Disk:
    """An ext4 file system in an image, at ``place`` while it is mounted."""

    def __init__(self, image: Path, place: Path, size: int = 96 * MIB) -> None:
        """Raises NoDisk."""
        if os.geteuid() != 0 or which("mkfs.ext4") is None:
            raise NoDisk("only root, with mkfs.ext4, can make and mount a file system")
        self.place = place
        self._image = image
        with image.open("wb") as file:
            file.truncate(size)
        place.mkdir()
        try:
            # Nothing is kept for root: it is full when it is full.
            _run("mkfs.ext4", "-q", "-m", "0", str(image))
            with self.mounted():
                pass
        except OSError as error:
            raise NoDisk(f"this system cannot mount a disk: {error}") from error

    @contextmanager
    def mounted(self) -> Iterator[None]:
        _run("mount", "-o", "loop", str(self._image), str(self.place))
        try:
            yield
        finally:
            _run("umount", str(self.place))

    def cut(self) -> None:
        """What the kernel has not written by now is gone. Raises NoDisk."""
        directory = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
        except OSError as error:
            raise NoDisk(f"this system cannot cut off a disk: {error}") from error
        finally:
            os.close(directory)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
