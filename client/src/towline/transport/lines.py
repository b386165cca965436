"""Pushes that travel together: what both kinds of clients share; nothing here does any I/O.

Where nothing is under way, a job is pushed at once, by a call of its own. Jobs that come while a
call is under way gather, and leave together when it ends, or at the latest GATHERING later. Each
gets the result or the error of its own, for the calls are made with allow_partial.

There is a line for each queue, since what can refuse a call as a whole is a matter of the queue:
the rights of the caller, and the store that keeps the queue. So callers share the fate of nobody
but those who push to the same queue. What else can refuse one is its size or its number of jobs:
such a call is divided, until the one job that is too large is alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from towline.errors import (
    BrokerError,
    CallFailed,
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    TowlineError,
    from_item_error,
)
from towline.requests import MAX_BYTES, MAX_JOBS
from towline.v1 import job_pb2
from towline.v1.queue_service_pb2 import PUSH_OUTCOME_REJECTED, PushRequest, PushResponse

GATHERING = 0.005
"""Seconds for which a job waits at most for a call under way to end."""

MAX_CALLS = 8
"""Calls of one line that are under way at a time. Beyond it jobs gather for longer, up to a whole
call each: the broker is slow or cannot keep up."""


class Passenger(Protocol):
    """A job whose caller waits for its outcome."""

    @property
    def message(self) -> job_pb2.Job: ...

    @property
    def size(self) -> int:
        """Bytes of the message."""

    @property
    def deadline(self) -> float:
        """On time.monotonic()."""

    def arrived(self, response: PushResponse) -> None:
        """Hand its caller the answer that a call for this job alone would have had."""

    def failed(self, error: Exception) -> None:
        """Let the caller raise an error."""


P = TypeVar("P", bound=Passenger)


class Line(Generic[P]):
    """The jobs of one queue that gather, and how many calls carry others. It exists for as long as
    a call is under way. Not safe from several threads at once."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self._calls = 0
        self._gathered: dict[P, None] = {}  # in order; a caller that gives up is found at once
        self._bytes = 0

    def go(self) -> bool:
        """Return whether a job that comes now is to have a call of its own; take note of it."""
        if self._calls or self._gathered:
            return False
        self._calls += 1
        return True

    def add(self, passenger: P) -> bool:
        """Return whether it is the first to gather: its caller sees that they leave in time."""
        self._gathered[passenger] = None
        self._bytes += passenger.size
        return len(self._gathered) == 1

    def holds(self, passenger: P) -> bool:
        """Whether it has not left yet."""
        return passenger in self._gathered

    def remove(self, passenger: P) -> bool:
        """Take out a job whose caller has given up. Return False when it has left."""
        if not self.holds(passenger):
            return False
        del self._gathered[passenger]
        self._bytes -= passenger.size
        return True

    @property
    def full(self) -> bool:
        """Whether what has gathered fills a call."""
        return len(self._gathered) >= MAX_JOBS or self._bytes >= MAX_BYTES

    def leave(self) -> list[P]:
        """Return what the next call carries; nothing when it has to wait for another to end."""
        if not self._gathered or self._calls >= MAX_CALLS:
            return []
        self._calls += 1
        leaving = _fitting(self._gathered)
        for passenger in leaving:
            self.remove(passenger)
        return leaving

    def divided(self) -> None:
        """Take note of a call for a part of what another carried."""
        self._calls += 1

    def ended(self) -> bool:
        """Take note that a call ended. Return whether it was the last, with nothing gathered."""
        self._calls -= 1
        return self._calls == 0 and not self._gathered

    def abandon(self) -> list[P]:
        """Return all that has gathered, which is not going to leave."""
        gathered = list(self._gathered)
        self._gathered.clear()
        self._bytes = 0
        return gathered


def _fitting(passengers: Iterable[P]) -> list[P]:
    """As many of the first as one call can carry, and one at least."""
    fitting: list[P] = []
    size = 0
    for passenger in passengers:
        size += passenger.size
        if fitting and (size > MAX_BYTES or len(fitting) == MAX_JOBS):
            break
        fitting.append(passenger)
    return fitting


def request_for(passengers: Sequence[Passenger]) -> tuple[PushRequest, float]:
    """Return the call that carries these jobs, and its timeout: that of the most patient caller."""
    request = PushRequest(
        jobs=[passenger.message for passenger in passengers], allow_partial=len(passengers) > 1
    )
    latest = max(passenger.deadline for passenger in passengers)
    return request, max(0.001, latest - time.monotonic())


def parts_of(passengers: Sequence[P], error: TowlineError) -> Sequence[Sequence[P]]:
    """Return the parts to try after a call was refused; none if they would not do better."""
    too_large = isinstance(error, InvalidArgument) or (
        isinstance(error, ResourceExhausted) and not error.reason  # it is gRPC that refuses
    )
    if not too_large or len(passengers) == 1:
        return ()
    half = len(passengers) // 2
    return passengers[:half], passengers[half:]


def deliver(passengers: Sequence[Passenger], response: PushResponse) -> None:
    """Hand each caller its own part of the answer."""
    if len(passengers) == 1:
        passengers[0].arrived(response)
        return
    if len(response.results) != len(passengers):
        for passenger in passengers:
            passenger.failed(
                BrokerError(
                    f"the broker answered with {len(response.results)} results "
                    f"for {len(passengers)} jobs"
                )
            )
        return
    for passenger, result in zip(passengers, response.results, strict=True):
        if result.outcome == PUSH_OUTCOME_REJECTED:
            passenger.failed(from_item_error(result.error))
        else:
            passenger.arrived(PushResponse(results=[result]))


def too_late(*, sent: bool) -> CallFailed:
    """Return the error of a caller whose own time is over."""
    if sent:
        message = "no answer in time from the broker; what was asked may be done all the same"
    else:
        message = "the job was not sent: the pushes before it got no answer in time"
    return DeadlineExceeded(message, code="DEADLINE_EXCEEDED")
