"""Whether there are likely to be more jobs than those that were asked for last.

An answer that is at least half full says so. That of a worker with one slot always is, also where
there is never more than one job at a time; so what came of the last questions for more counts too:
each in vain halves how often another is asked.
"""

from __future__ import annotations

_SELDOM = 4
"""Questions in vain, in a row, after which every sixteenth occasion is taken and no fewer."""


class Plenty:
    """For one thread."""

    def __init__(self) -> None:
        #: More jobs are worth a question.
        self.likely = False
        self._in_vain = 0
        #: Occasions to be let go.
        self._passed_over = 0

    def heard(self, came: int, asked: int, *, ahead: bool) -> None:
        """So many jobs came of asking for so many; ``ahead`` of what there was need for."""
        self.likely = 2 * came >= asked
        if ahead and came:
            self._in_vain = self._passed_over = 0
        elif ahead:
            self._in_vain = min(self._in_vain + 1, _SELDOM)
            self._passed_over = 2**self._in_vain - 1
        elif self.likely and self._passed_over:
            self._passed_over -= 1
            self.likely = False
