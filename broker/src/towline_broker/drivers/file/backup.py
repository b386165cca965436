"""A copy of a store's directory, made while a broker appends to its journal.

A segment is final once there is a later one, until it is given up: then its file goes, or is used
again under another name. So segments are copied, the oldest first, and not linked. Of the last one
its sound frames are copied and nothing behind them, whatever was half written there. What lived in
segments that were given up meanwhile stands in later ones, which are copied in a next round; each
round is shorter than the one before, for copying is faster than what it copies.

Before it begins, the file ``acknowledged`` is read: the copy must hold what it tells of.
"""

import os
import shutil
from pathlib import Path

from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.drivers.disk import Taken, sync
from towline_broker.drivers.file import mark, segments
from towline_broker.drivers.file.checking import Sound, read_once
from towline_broker.drivers.file.machine import THIS_MACHINE
from towline_broker.drivers.file.store import LOCK
from towline_broker.drivers.owning import OwnerLock

_ROUNDS = 20


def back_up(store: Path, target: Path) -> str:
    """Makes the copy at ``target``, in place of what is there, once it was read through and found
    whole. Returns what is in it, in a few words.

    Raises StoreRefused, StoreUnavailable (segments go faster than they can be copied), OSError.
    """
    if not segments.numbers_in(store):
        raise StoreRefused(f"there is no journal in {store}")
    if target.exists():
        _check_unused(target)
    draft = target.with_name(f"{target.name}.part")
    _remove(draft)
    draft.mkdir(mode=0o700)
    try:
        sound = _Copying(store, draft).run()
        sync(draft)
        _put_in_place(draft, target)
    finally:
        _remove(draft)
    return f"{sound.frames:,} frames with {sound.records:,} records"


class _Copying:
    def __init__(self, store: Path, draft: Path) -> None:
        self._store = store
        self._draft = draft
        #: Segments that are final, and copied.
        self._done: set[int] = set()

    def run(self) -> Sound:
        acknowledged = mark.read(THIS_MACHINE, self._store)
        refused: StoreRefused | None = None
        for _ in range(_ROUNDS):
            if not self._round():
                continue
            try:
                sound = read_once(self._draft)
            except StoreRefused as error:
                refused = error
                continue
            tail = sound.reader.tail
            if tail is not None and tail.sequence > acknowledged:
                return sound
            refused = StoreRefused(
                f"{self._store} lacks frames that were acknowledged, up to {acknowledged}"
            )
        if refused is not None:
            raise StoreRefused(
                f"the copy is not sound, and neither is the store, as it seems: {refused}"
            )
        raise StoreUnavailable("segments were given up faster than they could be copied; try again")

    def _round(self) -> bool:
        """Returns whether all segments that there were at its beginning are copied."""
        numbers = segments.numbers_in(self._store)
        for number in numbers:
            if number not in self._done and not self._copy(number, last=number == numbers[-1]):
                self._drop_up_to(number)
                return False
        return True

    def _copy(self, number: int, *, last: bool) -> bool:
        """False: the segment was given up meanwhile."""
        source = segments.path_of(self._store, number)
        try:
            content = source.read_bytes()
            status = source.stat()
        except FileNotFoundError:
            return False
        header = segments.read_header(source, content)
        if header.number != number:
            return False
        if last:
            content = _sound_part(header, content)
        target = segments.path_of(self._draft, number)
        with target.open("wb") as file:
            file.write(content)
            file.truncate(status.st_size)
            file.flush()
            os.fsync(file.fileno())
        if not last:
            self._done.add(number)
        # Its file may have been used again while it was read.
        return source.exists()

    def _drop_up_to(self, number: int) -> None:
        """What lived in them stands in later ones."""
        for old in segments.numbers_in(self._draft):
            if old <= number:
                segments.path_of(self._draft, old).unlink()
                self._done.discard(old)


def _sound_part(header: segments.Header, content: bytes) -> bytes:
    end = segments.HEADER_SIZE
    for frame in segments.frames_of(header, content):
        end = frame.end
    return content[:end]


def _check_unused(target: Path) -> None:
    """Raises StoreRefused if it is no store, or one that a broker uses."""
    if not target.is_dir() or not segments.numbers_in(target):
        raise Taken(f"{target} is not a store: nothing is put in its place")
    lock = OwnerLock(target, target / LOCK)
    lock.acquire()
    lock.release()


def _put_in_place(draft: Path, target: Path) -> None:
    old = target.with_name(f"{target.name}.old")
    if target.exists():
        _remove(old)
        target.rename(old)
    draft.rename(target)
    sync(target.parent)
    _remove(old)


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
