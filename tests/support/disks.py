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
from typing import Self

MIB = 1024 * 1024
#: Of Linux: shut down, and write nothing more, not even the file system's own journal.
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = struct.pack("I", 2)


#: Before a command that makes disks: it has its mounts for itself. Otherwise whoever made a
#: namespace of mounts meanwhile, as ``ip netns exec`` does, would keep them there.
ALONE = ("unshare", "--mount")


class NoDisk(Exception):
    """The message says what is missing."""


class Disk:
    """An ext4 file system in an image, at ``place`` while it is mounted; a context manager.

    It has its loop device for as long as it is there: one that is given back at each unmounting
    may be given to somebody else's image by the next mounting.
    """

    def __init__(self, image: Path, place: Path, size: int = 96 * MIB) -> None:
        """Raises NoDisk."""
        if os.geteuid() != 0 or which("mkfs.ext4") is None:
            raise NoDisk("only root, with mkfs.ext4, can make and mount a file system")
        self.place = place
        with image.open("wb") as file:
            file.truncate(size)
        place.mkdir()
        try:
            # Nothing is kept for root: it is full when it is full.
            _run("mkfs.ext4", "-q", "-m", "0", str(image))
            self._device = _run("losetup", "--find", "--show", str(image)).strip()
        except OSError as error:
            raise NoDisk(f"this system has no disk to be had: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _run("losetup", "--detach", self._device)

    @contextmanager
    def mounted(self) -> Iterator[None]:
        try:
            _run("mount", self._device, str(self.place))
        except OSError as error:
            raise NoDisk(f"this system cannot mount a disk: {error}") from error
        try:
            yield
        finally:
            _run("umount", str(self.place))

    def cut(self) -> None:
        """What the kernel has not written by now is gone."""
        directory = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(directory)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
