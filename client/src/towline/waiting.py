"""Waiting for a job to end, and for a broker that is full or cut off; nothing here does any I/O."""

from __future__ import annotations

import random
import time

from towline.durations import Seconds, as_timedelta
from towline.errors import (
    BrokerUnavailable,
    CallFailed,
    DeadlineExceeded,
    HandshakeFailed,
    InvalidJob,
    ResourceExhausted,
    ResultTimeout,
)
from towline.status import JobStatus

SLICE = 30.0
"""Seconds that one GetJob is held by the broker at most; it would hold 60."""

SHORTEST_INTERVAL = 0.05
"""Seconds between two looks at a job that is watched, at least."""

OUTAGE = 60.0
"""Seconds for which an awaited broker may be away, so that its restart is waited out."""

_PAUSE = 0.5
_LONGEST_PAUSE = 5.0


TRIES = 5
"""Calls of one push at most whose replies are cut off."""

GIVEN_UP_EARLY = 3.5
"""Seconds that the repeats of gRPC itself take at least, when it makes all of them."""


class Patience:
    """Of one caller who pushes, for ``timeout`` seconds in all."""

    def __init__(self, timeout: float) -> None:
        self._called = time.monotonic()
        self._deadline = self._called + timeout
        self._cut_off = 0
        self.left = timeout
        """Seconds that the next call may take."""

    def refused(self, error: ResourceExhausted) -> float:
        """Return the seconds to pause before another call to a full broker.

        Raises the error itself when the broker gave no time, or one that is beyond the deadline.
        """
        if error.retry_after is None:
            raise error
        # Spread, so that all who were refused do not come back in one moment.
        pause = error.retry_after * random.uniform(1.0, 1.2)  # noqa: S311 - guards nothing
        return self._pause(pause, error)

    def unavailable(self, error: BrokerUnavailable) -> float:
        """Return the seconds to pause before another call.

        gRPC repeats by itself what did not get through, but not a call whose reply had begun to
        arrive when the connection broke. Raises the error itself when it has made all its repeats.
        """
        self._cut_off += 1
        if self._cut_off == TRIES or time.monotonic() - self._called > GIVEN_UP_EARLY:
            raise error
        return self._pause(random.uniform(0.05, 0.2) * self._cut_off, error)  # noqa: S311 - as above

    def _pause(self, pause: float, error: CallFailed) -> float:
        self._called = time.monotonic() + pause
        self.left = self._deadline - self._called
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
        self._answered = False

    def next_slice(self) -> float:
        """Return the seconds for which the broker is to hold the next call."""
        left = self._left()
        return SLICE if left is None else min(SLICE, left)

    def answered(self, status: JobStatus) -> None:
        """Take note of an answer about a job that has not ended. Raises ResultTimeout."""
        self._last_answer = time.monotonic()
        self._answered = True
        if self._timeout is not None and self._left() == 0:
            raise ResultTimeout(self._job_id, self._timeout, status.state)

    def failed(self, error: CallFailed) -> float:
        """Return the seconds to pause before another call, or raise the error if it is final."""
        if not isinstance(error, (BrokerUnavailable, DeadlineExceeded, ResourceExhausted)):
            raise error
        if isinstance(error, HandshakeFailed) and not self._answered:
            raise error
        left = self._left()
        if left == 0 or time.monotonic() - self._last_answer > OUTAGE:
            raise error
        asked = None if isinstance(error, DeadlineExceeded) else error.retry_after
        pause = min(asked or _PAUSE, _LONGEST_PAUSE)
        return pause if left is None else min(pause, left)

    def _left(self) -> float | None:
        if self._timeout is None:
            return None
        return max(0.0, self._began + self._timeout - time.monotonic())


class WaitingForAll:
    """The time that is left for one job after another. Raises InvalidJob as Waiting does."""

    def __init__(self, timeout: Seconds | None) -> None:
        self._deadline = None
        if timeout is not None:
            seconds = as_timedelta(timeout, "timeout").total_seconds()
            self._deadline = time.monotonic() + seconds

    def left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())


class Watching(Waiting):
    """One look after another at one job, ``interval`` seconds apart, until it has ended.

    Raises InvalidJob for a timeout or an interval that is no duration, or too short a one.
    """

    def __init__(self, job_id: str, interval: Seconds, timeout: Seconds | None) -> None:
        super().__init__(job_id, timeout)
        self._interval = as_timedelta(interval, "interval").total_seconds()
        if self._interval < SHORTEST_INTERVAL:
            raise InvalidJob(
                f"interval: expected at least {SHORTEST_INTERVAL} seconds, got {interval!r}"
            )
        self._seen: tuple[object, ...] | None = None

    def next_slice(self) -> float:
        """As of Waiting; the first look is answered at once."""
        return 0.0 if self._seen is None else min(self._interval, super().next_slice())

    def news(self, status: JobStatus) -> bool:
        """Whether something has changed since the look before."""
        seen = (status.state, status.attempt, status.progress)
        changed, self._seen = seen != self._seen, seen
        return changed
