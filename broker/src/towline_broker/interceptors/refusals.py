"""Calls that were refused for want of credentials or rights: counted, and logged in measure."""

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from towline_broker.domain.errors import PermissionDenied, Unauthenticated

log = logging.getLogger("towline.access")

#: Who calls, where that is not known, and all beyond the first so many.
UNKNOWN, OTHERS = "unknown", "others"
MOST_COUNTED = 1_000
#: One line for an identity and a method within so many seconds.
QUIET_SECONDS = 10.0
MOST_REMEMBERED = 1_000


class Refused(NamedTuple):
    #: Such as "/towline.v1.QueueService/Push".
    method: str
    #: The name of the identity, or UNKNOWN, or OTHERS.
    identity: str
    #: UNAUTHENTICATED or PERMISSION_DENIED.
    code: str


class Refusals:
    """Counts since the process began. Bounded, whoever calls and however often."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: Counter[Refused] = Counter()
        #: When a line was written last, and how many refusals were passed over since.
        self._lines: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    @property
    def counts(self) -> Mapping[Refused, int]:
        """Calls refused, and items of batches refused for themselves."""
        return self._counts

    def note(
        self,
        method: str,
        identity: str,
        error: Unauthenticated | PermissionDenied,
        peer: str,
        times: int = 1,
    ) -> None:
        """``identity``: its name, empty if nobody knows who calls."""
        who = identity or UNKNOWN
        code = "UNAUTHENTICATED" if isinstance(error, Unauthenticated) else "PERMISSION_DENIED"
        key = Refused(method, who, code)
        if key not in self._counts and len(self._counts) >= MOST_COUNTED:
            key = Refused(method, OTHERS, code)
        self._counts[key] += times
        self._tell(method, who, error, peer, times)

    def _tell(self, method: str, who: str, error: Exception, peer: str, times: int) -> None:
        now = self._clock()
        told, passed_over = self._lines.get((method, who), (-QUIET_SECONDS, 0))
        if now - told < QUIET_SECONDS:
            self._lines[method, who] = (told, passed_over + times)
            return
        self._lines[method, who] = (now, 0)
        self._lines.move_to_end((method, who))
        if len(self._lines) > MOST_REMEMBERED:
            self._lines.popitem(last=False)
        unsaid = f" (and {passed_over} more since the last such line)" if passed_over else ""
        log.warning("refused %s from %s at %s: %s%s", method, who, peer, error, unsaid)
