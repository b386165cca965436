"""Files that are used while somebody may change them: certificates, keys, tokens.

What they hold is taken over when they have changed and are good. Half of a new file, or one that
cannot be read for a moment, leaves in use what was good before, and is tried again.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from towline_broker.server.file_signs import sign

T = TypeVar("T")

#: Seconds until files that were no good are read again, though they look unchanged: what kept them
#: from being read (a limit of open files, a disk of the network) does not show in them.
TRY_AGAIN = 1.0


class FilesInUse(Generic[T]):
    """``content`` is what ``read`` made of the files when they were last good.

    Raises what ``read`` raises, if they are no good to begin with. ``wrong``: what it may raise
    later; ``tell`` is given each such error once for as long as it says the same.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], T],
        wrong: tuple[type[Exception], ...],
        tell: Callable[[Exception], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = [str(path) for path in paths]
        self._read = read
        self._wrong = wrong
        self._tell = tell
        self._clock = clock
        #: Before they are read: a change meanwhile is seen at the next look.
        self._signs = [sign(path) for path in self._paths]
        self.content = read()
        self._told = ""
        #: When files that are no good are read again.
        self._again: float | None = None

    def look(self) -> bool:
        """Whether there is a new content. To ask that, of one file, takes two microseconds."""
        signs = [sign(path) for path in self._paths]
        if signs == self._signs and (self._again is None or self._clock() < self._again):
            return False
        self._signs, self._again = signs, self._clock() + TRY_AGAIN
        try:
            self.content = self._read()
        except self._wrong as error:
            if str(error) != self._told:
                self._told = str(error)
                self._tell(error)
            return False
        self._told, self._again = "", None
        return True
