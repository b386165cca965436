"""Calls that were refused for want of credentials or rights: counted, and logged in measure."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from towline_broker.domain.errors import PermissionDenied, Unauthenticated
from towline_broker.domain.events import event
from towline_broker.interceptors.in_measure import InMeasure, and_more
from towline_broker.status import wire_error

log = logging.getLogger("towline.access")

#: Who calls, where that is not known, and all beyond the first so many.
UNKNOWN, OTHERS = "unknown", "others"
MOST_COUNTED = 1_000


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
        self._counts: Counter[Refused] = Counter()
        #: By identity and method.
        self._lines = InMeasure(clock)

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
        key = refused = Refused(method, who, code)
        if key not in self._counts and len(self._counts) >= MOST_COUNTED:
            key = Refused(method, OTHERS, code)
        self._counts[key] += times
        self._tell(refused, error, peer, times)

    def _tell(
        self,
        refused: Refused,
        error: Unauthenticated | PermissionDenied,
        peer: str,
        times: int,
    ) -> None:
        method, who, code = refused
        passed_over = self._lines.passed_over((method, who), times)
        if passed_over is None:
            return
        log.warning(
            "refused %s from %s at %s: %s%s",
            *(method, who, peer, error, and_more(passed_over)),
            extra=event(
                "refused",
                method=method,
                caller=who,
                peer=peer,
                code=code,
                reason=wire_error(error).reason,
                why=str(error),
                **_lacking(error),
                passed_over=passed_over,
            ),
        )


def _lacking(error: Unauthenticated | PermissionDenied) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        return {}
    lacking = {"right": error.right, "queue": error.queue}
    return {name: value for name, value in lacking.items() if value}
