"""How far a store has acknowledged, in a small file beside it.

A store does not show by itself whether something is missing at its end. A journal whose last frame
is damaged looks like one that a crash has cut off there; a log that SQLite cannot read on ends
there, for SQLite; and a file that is gone leaves no trace. So once something is synced, and before
it is answered, its number goes into this file, in place of the one before. A store that holds less
when it is opened has lost what it had acknowledged, and is refused.

The file is not synced itself: whatever of it has reached the disk was true before it was written.
So it is exact after the end of a process, and may be some seconds old after a loss of power. One
that cannot be read, or is not there, says nothing. One that cannot be written keeps nobody from
anything: what it says was true before, and still is.
"""

import zlib

_MAGIC = b"TWLA"
_HEAD = len(_MAGIC) + 4


def sealed(content: bytes) -> bytes:
    """As it stands in the file: with what tells whether it was written as a whole."""
    return _MAGIC + zlib.crc32(content).to_bytes(4, "little") + content


def unsealed(found: bytes, size: int) -> bytes | None:
    """So many bytes of content; None if they are not sound."""
    content = found[_HEAD : _HEAD + size]
    return content if len(content) == size and found.startswith(sealed(content)) else None
