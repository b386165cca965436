"""What a middleware is, and what it is told.

A middleware is an object with any of these methods:

    def push(self, jobs):               around a dispatch
        for job in jobs:
            job.headers["tenant"] = tenant()
        yield

    def handle(self, job, context):     around a handler
        started = time.monotonic()
        result = yield
        print(context.type, time.monotonic() - started)

    def ended(self, end):               told how an attempt ended; a plain function

``push`` and ``handle`` are generators with one bare ``yield``. What stands before it runs before
the call, ``yield`` gives what the call returned or raises what it raised, and what stands after it
runs after. Returning a value puts it in the place of the result; returning none leaves the result
as it is, and makes None of an error that was caught. A generator that returns before its ``yield``
skips the call. What it raises is raised by the call.

An ``async def`` with a ``yield`` may be used where there is a loop: AsyncClient, and a Worker with
``pool="async"``. Python lets it return no value, so it cannot change a result.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from towline.context import JobContext
from towline.errors import TowlineError

if TYPE_CHECKING:
    from towline.middleware.outgoing import OutgoingJob

Around: TypeAlias = Iterator[None] | AsyncIterator[None]
"""What a generator function with a bare yield returns."""


class AttemptOutcome(StrEnum):
    SUCCEEDED = "succeeded"
    RETRIED = "retried"
    """It failed, and the job will run again."""
    DEAD = "dead"
    """It failed for good: out of attempts, rejected, or not decodable."""
    RELEASED = "released"
    """The job was given back, its attempt not counted."""
    CANCELLED = "cancelled"
    """The job was cancelled while it ran."""
    LOST = "lost"
    """The lease was lost, or the worker stopped before the handler ended: nothing is recorded."""


@dataclass(frozen=True)
class AttemptEnd:
    """How one attempt ended, as the worker decided.

    ``job`` is None when the payload could not be decoded. ``error`` is None when it succeeded, and
    also what a handler raised to be released or retried. ``seconds`` is how long it ran.
    """

    job: Any
    context: JobContext
    outcome: AttemptOutcome
    error: BaseException | None
    seconds: float


class WrapsPush(Protocol):
    def push(self, jobs: Sequence[OutgoingJob], /) -> Around: ...


class WrapsHandle(Protocol):
    def handle(self, job: Any, context: JobContext, /) -> Around: ...


class HearsEnd(Protocol):
    def ended(self, end: AttemptEnd, /) -> object: ...


PushFunction: TypeAlias = Callable[["Sequence[OutgoingJob]"], Around]
HandleFunction: TypeAlias = Callable[[Any, JobContext], Around]

ClientMiddleware: TypeAlias = WrapsPush | WrapsHandle | HearsEnd | PushFunction
"""For Client and AsyncClient: a function is its push()."""

WorkerMiddleware: TypeAlias = WrapsPush | WrapsHandle | HearsEnd | HandleFunction
"""For Worker: a function is its handle()."""


class MiddlewareError(TowlineError):
    """A middleware did what it may not, such as to yield twice."""
