"""How much room the journal has, reserved on the disk beforehand.

Records go into files whose blocks are theirs already. New jobs may not touch the reserve: it is for
settling what is stored, and for compaction, so that both go on when the disk is full. It is a share
of the journal: the fuller a journal is with what lives, the more of it compaction has to carry to
gain the room of one record.
"""

from collections import deque
from pathlib import Path

from towline_broker.drivers.file.segments import HEADER_SIZE
from towline_broker.drivers.file.writer import RECORD_OVERHEAD

#: Spare segments that new jobs may not touch: so many, or one for so many segments.
LEAST_RESERVE = 2
SHARE = 4


def reserve_of(segments: int) -> int:
    return max(LEAST_RESERVE, -(-segments // SHARE))


class Room:
    def __init__(self, left: int, spares: "deque[tuple[Path, int]]") -> None:
        """``left``: bytes in the active segment. ``spares``: files with their sizes."""
        self._left = left
        self._spares = spares

    @property
    def spares(self) -> int:
        return len(self._spares)

    def has(self, size: int, reserve: int = 0) -> bool:
        """For a record of so many bytes, so that so many spare segments remain."""
        need = size + RECORD_OVERHEAD
        if need <= self._left:
            return len(self._spares) >= reserve
        return len(self._spares) > reserve and need <= self._spares[0][1] - HEADER_SIZE

    def add_spare(self, path: Path, size: int, *, first: bool = False) -> None:
        """``first``: it is used before the others."""
        if first:
            self._spares.appendleft((path, size))
        else:
            self._spares.append((path, size))

    def take(self, size: int) -> Path | None:
        """Accounts for a record; returns the spare to begin if it goes into a new segment."""
        need = size + RECORD_OVERHEAD
        spare = None
        if need > self._left:
            spare, whole = self._spares.popleft()
            self._left = whole - HEADER_SIZE
        self._left -= need
        return spare
