"""Reading a journal from its oldest segment to its tail, and telling a torn tail from damage.

Each frame is written and synced before the next one is begun, and nothing in it is acknowledged
before that. So where the last segment goes on with no sound frame, its tail is unused or holds the
one frame that a crash cut off, and can be cut; unless a sound frame of it lies further behind, or
the file ``acknowledged`` tells of it, for then what cannot be read here had been synced: damage.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.file import mark
from towline_broker.drivers.file.machine import THIS_MACHINE, Machine
from towline_broker.drivers.file.rows import Record, decode_frame
from towline_broker.drivers.file.segments import (
    FRAME_MAGIC,
    FRAME_SIZE,
    HEADER_SIZE,
    WAY_OUT,
    Frame,
    Header,
    frames_of,
    numbers_in,
    path_of,
    read_header,
    sound_frame_behind,
)


class Damaged(StoreRefused):
    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(f"{path} is damaged at offset {offset}: {what}; {WAY_OUT}")
        self.path = path
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the journal ends."""

    header: Header
    #: In the last segment.
    offset: int
    #: Of the next frame.
    sequence: int
    #: A frame was begun there and not finished.
    torn: bool


class Reader:
    """One pass over the journal of a directory. Changes nothing."""

    def __init__(self, directory: Path, machine: Machine = THIS_MACHINE) -> None:
        self.directory = directory
        self._machine = machine
        #: Known after the pass; None: there is no segment.
        self.tail: Tail | None = None
        self.oldest: int | None = None

    def frames(self) -> Iterator[tuple[Header, Frame]]:
        """Raises StoreRefused (as :class:`Damaged` where a place can be named), OSError."""
        before: Tail | None = None
        # Before the segments: a store that is in use goes on meanwhile.
        acknowledged = mark.read(self._machine, self.directory)
        numbers = numbers_in(self.directory, machine=self._machine)
        for number in numbers:
            path = path_of(self.directory, number)
            content = self._machine.read(path)
            header = read_header(path, content)
            self._check_header(path, header, number, len(content))
            if before is None:
                self.oldest = number
            else:
                self._check_joint(before, header)
            offset, sequence = HEADER_SIZE, header.first
            for frame in frames_of(header, content):
                yield header, frame
                offset, sequence = frame.end, frame.sequence + 1
            before = _tail(header, content, offset, sequence)
            if number == numbers[-1]:
                self._check_tail(path, before, content)
        self._check_acknowledged(before, acknowledged)
        self.tail = before

    def records(self) -> Iterator[tuple[Header, Frame, list[Record]]]:
        for header, frame in self.frames():
            try:
                records = decode_frame(frame.body)
            except msgspec.MsgspecError as error:
                path = path_of(self.directory, header.number)
                what = f"a sound frame holds what this release cannot read ({error})"
                raise Damaged(path, frame.offset, what) from None
            yield header, frame, records

    def _check_header(self, path: Path, header: Header, number: int, size: int) -> None:
        if header.number != number:
            raise StoreRefused(f"{path} is segment {header.number} under another name: {WAY_OUT}")
        if size < header.size:
            raise Damaged(path, size, f"the file was cut short, it had {header.size} bytes")

    def _check_joint(self, before: Tail, header: Header) -> None:
        path = path_of(self.directory, header.number)
        if header.store != before.header.store:
            raise StoreRefused(f"{path} belongs to another store: {WAY_OUT}")
        if header.number != before.header.number + 1:
            missing = path_of(self.directory, before.header.number + 1)
            raise StoreRefused(f"{missing} is missing: {WAY_OUT}")
        if header.first != before.sequence:
            ended = path_of(self.directory, before.header.number)
            what = f"frame {before.sequence} cannot be read, and later ones follow in {path.name}"
            raise Damaged(ended, before.offset, what)

    @staticmethod
    def _check_tail(path: Path, tail: Tail, content: bytes) -> None:
        later = sound_frame_behind(tail.header, content, tail.offset, tail.sequence)
        if later is not None:
            what = f"frame {tail.sequence} cannot be read, and frame {later.sequence} follows"
            raise Damaged(path, tail.offset, what)

    def _check_acknowledged(self, tail: Tail | None, acknowledged: int) -> None:
        if acknowledged < (1 if tail is None else tail.sequence):
            return
        known = self.directory / mark.NAME
        what = (
            f"cannot be read, and had been acknowledged, as all up to frame {acknowledged} (by "
            f"{known}: remove that file if an older copy of the store was put back on purpose)"
        )
        first = path_of(self.directory, 1)
        if tail is None:
            raise StoreRefused(f"{first} and all that followed it {what}: {WAY_OUT}")
        path = path_of(self.directory, tail.header.number)
        raise Damaged(path, tail.offset, f"frame {tail.sequence} {what}")


def _tail(header: Header, content: bytes, offset: int, sequence: int) -> Tail:
    begun = content[offset : offset + FRAME_SIZE]
    torn = begun[:4] == FRAME_MAGIC and int.from_bytes(begun[12:20], "little") == sequence
    return Tail(header, offset, sequence, torn)
