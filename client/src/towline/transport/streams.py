"""Pushes over a stream: what both kinds of clients share; nothing here does any I/O.

Where single jobs are pushed often, they go over one PushStream of the process, for a fraction of
what a call costs both ends. It is never the only way: a push that it did not take, or gave no
answer to, is made by a call, which is repeated, balanced and explained as calls are. That is safe,
since a job has its id. So a stream that breaks, or a broker that has none, costs time and nothing
else.

A stream stays with one broker. It is replaced after AGE, and the next one goes wherever a call
would go then, so that load spreads over brokers; the one before is ended once that is accepted, or
as soon as its broker says that it is closing.
"""

from __future__ import annotations

import random
import time

from towline.errors import CallFailed, DeadlineExceeded, from_status
from towline.v1.queue_service_pb2 import (
    PushRequest,
    PushResponse,
    PushStreamRequest,
    StreamedPush,
    StreamedPushResult,
)

METHOD = "/towline.v1.QueueService/PushStream"

OFTEN = 16
"""Pushes within a second that a stream is opened for."""

IDLE = 5.0
"""Seconds without a push after which it is ended."""

AGE = 10.0
"""Seconds after which it is replaced, less up to a fifth."""

STALLED = 1.0
"""Seconds. While a push waits for longer, those that come go by calls; of a stream that has not
answered yet it does so itself, for something on the way may not let streams through."""

LARGEST = 256 * 1024
"""Bytes of a push. A larger one gains nothing, and those behind it would wait."""

JOINED_BYTES = 1024 * 1024
JOINED = 1000
"""Pushes that are at hand together travel in one message, up to so many and so many bytes."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
"""Seconds until the next stream after one that failed: growing, as long as none has answered."""

# What gRPC repeats by itself, as towline.channel has it.
_REPEATED = {"UNAVAILABLE", "CANCELLED"}


class Demand:
    """Whether a stream is worth its opening. Threads may use it at once: counts need not be
    exact."""

    def __init__(self) -> None:
        self._since = 0.0
        self._pushes = 0
        self._not_before = 0.0
        self._pause = FIRST_PAUSE

    def pushed(self) -> bool:
        """Take note of a push that found no stream, or one that is to be replaced. Return whether
        to open one."""
        now = time.monotonic()
        if now - self._since > 1.0:
            self._since, self._pushes = now, 0
        self._pushes += 1
        return self._pushes >= OFTEN and now >= self._not_before

    def failed(self, *, answered: bool) -> None:
        """A stream ended as it should not; ``answered``: after it had been of use."""
        if answered:
            self._pause = FIRST_PAUSE
        self._not_before = time.monotonic() + self._pause * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


def end_of_age() -> float:
    """When a stream that is accepted now is to be replaced, on time.monotonic()."""
    return time.monotonic() + AGE * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load


def encoded(sequence: int, request: PushRequest) -> bytes:
    """Return a message of the stream. Several in a row are one message with all their pushes."""
    push = StreamedPush(sequence=sequence, request=request)
    return PushStreamRequest(pushes=[push]).SerializeToString()


def outcome_of(result: StreamedPushResult) -> PushResponse | None:
    """Return the answer to a push; None: make it by a call. Raises what Push fails with."""
    if not result.HasField("error"):
        return result.response
    error = from_status(result.error)
    if error.code in _REPEATED:
        return None
    raise error


def too_late() -> CallFailed:
    """Return the error of a caller whose time is over."""
    return DeadlineExceeded(
        "no answer in time from the broker; what was asked may be done all the same",
        code="DEADLINE_EXCEEDED",
    )
