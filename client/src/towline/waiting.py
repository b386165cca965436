"""Waiting for a job to end, and for room in a full broker; nothing here does any I/O."""

from __future__ import annotations

import random
import time

from towline.durations import Seconds, as_timedelta
from towline.errors import BrokerUnavailable, CallFailed, ResourceExhausted, ResultTimeout
from towline.status import JobStatus

SLICE = 30.0
"""Seconds that one GetJob is held by the broker at most; it would hold 60."""

OUTAGE = 60.0
"""Seconds for which an awaited broker may be away, so that its restart is waited out."""

_PAUSE = 0.5
_LONGEST_PAUSE = 5.0


class Room:
    """The wait of one caller for room in a full broker, for ``timeout`` seconds in all."""

    def __init__(self, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self.left = timeout
        """Seconds that the next call may take."""

    def refused(self, error: ResourceExhausted) -> float:
        """Return the seconds to pause before another call.

        Raises the error itself when the broker gave no time, or one that is beyond the deadline.
        """
        if error.retry_after is None:
            raise error
        # Spread, so that all who were refused do not come back in one moment.
        pause = error.retry_after * random.uniform(1.0, 1.2)  # noqa: S311 - guards nothing
        self.left = self._deadline - time.monotonic() - pause
        if self.left <= 0:
            raise error
        return pause


class Waiting:
    """One wait for one job, for ``timeout`` seconds; None: for as long as it takes.

    Raises InvalidJob for a timeout that is no duration.
    """

    def __init__(self, job_id: str, timeout: Seconds | None) -> None:
        self._job_id = job_id
        self._timeout = (
            None if timeout is None else as_timedelta(timeout, "timeout").total_seconds()
        )
        self._began = time.monotonic()
        self._last_answer = self._began

    def next_slice(self) -> float:
        """Return the seconds for which the broker is to hold the next call."""
        left = self._left()
        return SLICE if left is None else min(SLICE, left)

    def answered(self, status: JobStatus) -> None:
        """Take note of an answer about a job that has not ended. Raises ResultTimeout."""
        self._last_answer = time.monotonic()
        if self._timeout is not None and self._left() == 0:
            raise ResultTimeout(self._job_id, self._timeout, status.state)

    def failed(self, error: CallFailed) -> float:
        """Return the seconds to pause before another call, or raise the error if it is final."""
        if not isinstance(error, (BrokerUnavailable, ResourceExhausted)):
            raise error
        left = self._left()
        if left == 0 or time.monotonic() - self._last_answer > OUTAGE:
            raise error
        pause = min(error.retry_after or _PAUSE, _LONGEST_PAUSE)
        return pause if left is None else min(pause, left)

    def _left(self) -> float | None:
        if self._timeout is None:
            return None
        return max(0.0, self._began + self._timeout - time.monotonic())
