"""The files of a journal: their names, their headers, how they are made and read.

    header   8 bytes "TWLJOURN", version, number, first sequence, size, salt, store; CRC32 of these
    frame    4 bytes "TWLF", CRC32, length of the body, sequence; then the body

A frame's checksum begins from the header's, and covers its length and sequence: a frame of another
segment, or of an earlier life of the same file, is none of this one.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.file.machine import THIS_MACHINE, Machine, write_whole

#: Of what is written. Version 2 tells in one row of jobs that were pushed or leased together, and
#: in one of a job that has ended and of the lease that was acknowledged.
VERSION = 2
#: The oldest that is read.
OLDEST_VERSION = 1
_MAGIC = b"TWLJOURN"
_HEADER = struct.Struct("<8sIIQQQ8s8s")
HEADER_SIZE = _HEADER.size + 4

FRAME_MAGIC = b"TWLF"
_FRAME = struct.Struct("<4sIIQ")
FRAME_SIZE = _FRAME.size
_COVERED = struct.Struct("<IQ")

#: Least size of a segment, so that some frames fit in.
LEAST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Header:
    number: int
    #: Of the first frame.
    first: int
    #: Of the file, in bytes.
    size: int
    #: Drawn at random for every segment.
    salt: bytes
    #: Drawn at random for every store.
    store: bytes
    version: int = field(default_factory=lambda: VERSION)

    def encode(self) -> bytes:
        fields = (
            _MAGIC,
            self.version,
            0,
            self.number,
            self.first,
            self.size,
            self.salt,
            self.store,
        )
        packed = _HEADER.pack(*fields)
        return packed + zlib.crc32(packed).to_bytes(4, "little")

    @property
    def seed(self) -> int:
        """What checksums of frames begin from."""
        return zlib.crc32(self.encode())


@dataclass(frozen=True, slots=True)
class Frame:
    sequence: int
    #: Where it begins in the file.
    offset: int
    body: memoryview

    @property
    def end(self) -> int:
        return self.offset + FRAME_SIZE + len(self.body)

    @property
    def whole(self) -> bytes:
        """As it stands in the file."""
        return bytes(memoryview(self.body.obj)[self.offset : self.end])


def path_of(directory: Path, number: int) -> Path:
    return directory / f"journal-{number:010}.log"


def spare_path(directory: Path, number: int) -> Path:
    return directory / f"spare-{number:010}.log"


def numbers_in(
    directory: Path, kind: str = "journal", machine: Machine = THIS_MACHINE
) -> list[int]:
    """Numbers of the segments (or with "spare", of the spare files) in the directory, ascending.
    None, if there is no such directory."""
    if not machine.is_directory(directory):
        return []
    names = [
        name
        for name in machine.names(directory)
        if name.startswith(f"{kind}-") and name.endswith(".log")
    ]
    digits = (name.removeprefix(f"{kind}-").removesuffix(".log") for name in names)
    return sorted(int(text) for text in digits if text.isascii() and text.isdigit())


def read_header(path: Path, content: bytes) -> Header:
    """Raises StoreRefused if it is damaged or of another version."""
    if len(content) < HEADER_SIZE or content[:8] != _MAGIC:
        raise StoreRefused(f"{path} does not begin as a segment of a journal does: {WAY_OUT}")
    packed = content[: _HEADER.size]
    version = int.from_bytes(content[8:12], "little")
    if zlib.crc32(packed) != int.from_bytes(content[_HEADER.size : HEADER_SIZE], "little"):
        raise StoreRefused(f"{path} is damaged in its header (offset 0): {WAY_OUT}")
    if not OLDEST_VERSION <= version <= VERSION:
        age = "newer" if version > VERSION else "unknown"
        raise StoreRefused(
            f"{path} has the {age} format {version}, and this broker knows {VERSION}; use the "
            "release of Towline that wrote it, or a later one"
        )
    _, _, _, number, first, size, salt, store = _HEADER.unpack(packed)
    return Header(number, first, size, salt, store, version)


WAY_OUT = (
    "restore the directory from a backup, or look at what is left with "
    "`towline-broker journal check` and `journal cat`"
)


def frame_header(header_seed: int, sequence: int, body: bytes) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(_COVERED.pack(len(body), sequence), header_seed))
    return _FRAME.pack(FRAME_MAGIC, checksum, len(body), sequence)


def frame_at(header: Header, seed: int, content: bytes, offset: int) -> Frame | None:
    """The frame that begins there, None if there is no sound one."""
    body_at = offset + FRAME_SIZE
    if body_at > len(content):
        return None
    magic, checksum, length, sequence = _FRAME.unpack_from(content, offset)
    if magic != FRAME_MAGIC or length > len(content) - body_at or sequence < header.first:
        return None
    body = memoryview(content)[body_at : body_at + length]
    if zlib.crc32(body, zlib.crc32(_COVERED.pack(length, sequence), seed)) != checksum:
        return None
    return Frame(sequence, offset, body)


def frames_of(header: Header, content: bytes) -> Iterator[Frame]:
    """The frames from the beginning on, up to where there is none with the next sequence."""
    seed, offset, sequence = header.seed, HEADER_SIZE, header.first
    while (frame := frame_at(header, seed, content, offset)) and frame.sequence == sequence:
        yield frame
        offset, sequence = frame.end, sequence + 1


def sound_frame_behind(header: Header, content: bytes, offset: int, sequence: int) -> Frame | None:
    """Any frame of this segment behind the offset, of this sequence or a later one."""
    seed = header.seed
    at = content.find(FRAME_MAGIC, offset + 1)
    while at >= 0:
        frame = frame_at(header, seed, content, at)
        if frame is not None and frame.sequence >= sequence:
            return frame
        at = content.find(FRAME_MAGIC, at + 1)
    return None


# --- making ---------------------------------------------------------------------------------------


def make_spare(machine: Machine, path: Path, size: int) -> None:
    """A file of this size whose room on the disk is its own. Raises OSError, leaving none."""
    file = machine.create(path)
    try:
        machine.allocate(file, size)
        machine.sync(file)
    except OSError:
        machine.remove(path)
        raise
    finally:
        machine.close(file)


#: So many names any directory holds without growing.
FEW_NAMES = 16


def widen(machine: Machine, directory: Path) -> int:
    """Makes room for four times the names that are in the directory, and returns for how many there
    is room then.

    Renaming a file takes room for its new name, which a full disk does not have, in a part of the
    directory that goes by the name. A directory that was once as large stays so: hence files that
    are made and removed again, as spares that the next start would remove, should it come to that.
    """
    names = len(machine.names(directory))
    if names < FEW_NAMES:
        return 2 * FEW_NAMES
    first = 1 + max(numbers_in(directory, "spare", machine), default=0)
    made = []
    try:
        for number in range(first, first + 3 * names):
            path = spare_path(directory, number)
            machine.close(machine.create(path))
            made.append(path)
    except OSError:
        pass  # it is as wide as the disk lets it be
    finally:
        for path in made:
            machine.remove(path)
    return 4 * names


def begin(
    machine: Machine, spare: Path, directory: Path, number: int, first: int, store: bytes
) -> tuple[int, Header]:
    """Makes a spare file the next segment, durably; returns it open for writing."""
    file = machine.open(spare)
    try:
        size = machine.size(spare)
        header = Header(number, first, size, machine.random(8), store)
        write_whole(machine, file, header.encode(), 0)
        machine.sync(file)
        machine.rename(spare, path_of(directory, number))
        machine.sync_directory(directory)
    except BaseException:
        machine.close(file)
        raise
    return file, header
