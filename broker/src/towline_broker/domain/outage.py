"""What goes on failing is told once when it begins, and once when it is over."""

import logging

log = logging.getLogger("towline.broker")

#: What has been told of an outage: an error that outages are made of; one that nobody expected.
_NOTHING, _EXPECTED, _DEFECT = range(3)


class Outage:
    """``failing`` and ``over`` are the two lines; to the first one the reason is added."""

    def __init__(self, failing: str, over: str) -> None:
        self._failing = failing
        self._over = over
        self._told = _NOTHING

    def failed(self, reason: object, defect: Exception | None = None) -> None:
        """To be called for each failure. A defect is told also if the outage has begun before."""
        kind = _DEFECT if defect else _EXPECTED
        level = logging.WARNING if kind > self._told else logging.DEBUG
        self._told = max(self._told, kind)
        # Some errors, such as TimeoutError, say nothing but what they are.
        why = str(reason) or type(reason).__name__
        log.log(level, "%s: %s", self._failing, why, exc_info=defect)

    def works(self) -> None:
        """To be called whenever it works."""
        if self._told:
            log.info(self._over)
        self._told = _NOTHING
