"""What goes on failing is told once when it begins, and once when it is over."""

import logging
import time
from collections.abc import Callable

from towline_broker.domain.events import event, store_at_hand

log = logging.getLogger("towline.broker")

#: What has been told of an outage: an error that outages are made of; one that nobody expected.
_NOTHING, _EXPECTED, _DEFECT = range(3)


class Outage:
    """Of one thing (``part``, a word for programs) that a store is needed for.

    ``failing`` and ``over`` are the two lines. In front of them the name of the store is put, that
    of ``store`` or else of the one at hand, and behind them the reason, or how long it took. What
    fails now and then is over once it has not failed for ``quiet_for`` seconds.
    """

    def __init__(
        self,
        part: str,
        failing: str,
        over: str,
        store: str = "",
        quiet_for: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._part = part
        self._failing = failing
        self._over = over
        self._store = store
        self._quiet_for = quiet_for
        self._clock = clock
        self._told = _NOTHING
        self._since = self._last = 0.0

    def failed(self, reason: object, defect: Exception | None = None) -> None:
        """To be called for each failure. A defect is told also if the outage has begun before."""
        kind = _DEFECT if defect else _EXPECTED
        level = logging.WARNING if kind > self._told else logging.DEBUG
        self._last = self._clock()
        if not self._told:
            self._since = self._last
        self._told = max(self._told, kind)
        # Some errors, such as TimeoutError, say nothing but what they are.
        why = str(reason) or type(reason).__name__
        log.log(
            level,
            "store %s: %s: %s",
            *(self._name, self._failing, why),
            exc_info=defect,
            extra=event("outage", store=self._name, part=self._part, reason=why),
        )

    def works(self) -> None:
        """To be called whenever it works."""
        if self._told and self._clock() - self._last >= self._quiet_for:
            self._told = _NOTHING
            seconds = round(self._clock() - self._since, 3)
            log.info(
                "store %s: %s, after %.1f s",
                *(self._name, self._over, seconds),
                extra=event("outage_over", store=self._name, part=self._part, seconds=seconds),
            )

    @property
    def _name(self) -> str:
        return self._store or store_at_hand() or "default"
