"""The disk that an embedded store is on: its kind, its room, how soon a write is safe on it."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from towline_broker.doctor.findings import Finding, ok, problem, warning
from towline_broker.drivers.disk import free_bytes

#: Less is worth a word, in bytes.
LEAST_FREE = 1 << 30
#: Writes of one block that are made safe, and how long one should take, in seconds.
WRITES, SLOW = 20, 0.02
BLOCK = bytes(4096)

#: Kinds of file systems whose locks and fsyncs depend on a server.
REMOTE = frozenset({"9p", "afs", "ceph", "cifs", "glusterfs", "nfs", "nfs4", "smb3", "smbfs"})
VOLATILE = frozenset({"ramfs", "tmpfs"})
MOUNTS = Path("/proc/self/mounts")


def look_at(about: str, folder: Path, kept_free: int) -> Iterator[Finding]:
    """``folder`` is there, or can be made below the first parent of it that is.

    ``kept_free`` is what new jobs have to leave free on its disk, in bytes.
    """
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        yield problem(
            about, f"no file can be made in {there}", "give the user of the broker the right to"
        )
        return
    yield _kind(about, there)
    yield _room(about, there, kept_free)
    yield _speed(about, there)


def _room(about: str, folder: Path, kept_free: int) -> Finding:
    free = free_bytes(folder)
    if free < kept_free:
        # SQLite's file may have room in itself, which is not known without opening it.
        refused = "new jobs are refused, but for what the store has room for in itself"
        return problem(
            about,
            f"{free} bytes are free in {folder}, less than min_free_bytes ({kept_free}): {refused}",
            "make room; workers go on, and empty the queues meanwhile",
        )
    room = f"{free / (1 << 30):.1f} GiB are free in {folder}"
    if free < LEAST_FREE:
        remedy = "make room: a broker refuses jobs before the disk is full, and goes on with Acks"
        return warning(about, room, remedy)
    return ok(about, room)


def _kind(about: str, folder: Path) -> Finding:
    kind = kind_of(folder, MOUNTS.read_text() if MOUNTS.exists() else "")
    if kind in VOLATILE:
        return problem(
            about,
            f"{folder} is kept in memory ({kind}): jobs end with the machine",
            "another folder",
        )
    if kind in REMOTE or kind.startswith("fuse."):
        return warning(
            about,
            f"{folder} is on a file system of the network ({kind}): it is up to its server whether "
            "one broker at a time owns the store, and whether what was told as safe is",
            "a disk of this machine, or a store that brokers share",
        )
    if kind == "overlay":
        return warning(
            about,
            f"{folder} is in the layer of a container ({kind}): jobs end with the container",
            "mount a volume there",
        )
    return ok(about, f"file system {kind or 'of unknown kind'}")


def kind_of(folder: Path, mounts: str) -> str:
    """By the text of /proc/mounts: that of the deepest mount above the folder; empty if unknown."""
    deepest, kind = -1, ""
    for line in mounts.splitlines():
        _, point, each, *_ = line.split(" ")
        # Blanks and the like are written in octal.
        mount = Path(point.encode().decode("unicode_escape"))
        depth = len(mount.parts)
        if depth >= deepest and folder.resolve().is_relative_to(mount):
            deepest, kind = depth, each
    return kind


def _speed(about: str, folder: Path) -> Finding:
    try:
        seconds = _seconds_of_sync(folder)
    except OSError as error:
        remedy = "make room, or see what the kernel says of the disk (dmesg)"
        return problem(about, f"nothing can be written in {folder}: {error.strerror}", remedy)
    took = f"a write is safe on the disk after {seconds * 1e3:.1f} ms"
    if seconds > SLOW:
        return warning(
            about,
            f"{took} (median of {WRITES})",
            "each answer to a Push waits for one: a faster disk, or one whose cache is kept by a "
            "battery",
        )
    return ok(about, took)


def _seconds_of_sync(folder: Path) -> float:
    taken = []
    with tempfile.TemporaryFile(dir=folder, prefix=".towline-doctor-") as file:
        for _ in range(WRITES):
            file.write(BLOCK)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return median(taken)
