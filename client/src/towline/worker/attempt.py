"""One attempt of one job, from its lease to the decision what the broker is told.

A pool calls ``begin``, then ``call`` (and awaits what it returns, if that is a coroutine), then
``conclude`` with what came of it, and ``end`` in any case. Middleware runs inside of ``call``: what
it raises or returns counts as the handler's. A pool whose handlers run in other processes uses
``held``, ``settle`` and ``end`` only: there another Attempt goes through the whole of it.

What becomes of the job:

    the handler returned           Ack with the encoded value; no such encoding: dead, InvalidResult
    it raised Retry, Reject,       what that asks for
        Release
    it raised anything else        retry as next_retry_delay() says, else by the job's policy;
                                   dead if should_retry() says no
    it outlived its timeout        as if it had raised JobTimeout, whatever it returned
    the lease was lost or the      nothing: the outcome would not be recorded
        job cancelled
    the worker stopped first       released
    the payload cannot be decoded  dead, InvalidPayload
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeAlias

from towline.calls import Raised, Result
from towline.context import CancelReason, JobContext
from towline.control import JobControl, Release, Retry
from towline.errors import InvalidPayload, JobCancelled, LeaseLost, TowlineError
from towline.middleware.handling import HandlerMiddleware
from towline.middleware.interface import AttemptEnd, AttemptOutcome
from towline.registry import JobDefinition
from towline.worker import outcome, undecodable
from towline.worker.callbacks import Callbacks
from towline.worker.coroutines import until_ended
from towline.worker.errors import InvalidResult, JobTimeout
from towline.worker.leases import HeldLease, Settlement

# Of its own, so that a program can be without a line for each job and still hear the worker.
logger = logging.getLogger("towline.worker.jobs")


InThread: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Result]]
"""Runs a function in a thread, and is awaited on a loop."""

_NO_MIDDLEWARE = HandlerMiddleware()


class Attempt:
    """See the head of this module. ``settle`` takes the decision; False if it comes too late.

    ``since`` is when it came to where it is now, on the monotonic clock: see towline.worker.slots.
    """

    __slots__ = (
        "_callbacks",
        "_definition",
        "_held",
        "_job",
        "_middleware",
        "_on_end",
        "_settle",
        "_started_at",
        "since",
    )

    def __init__(
        self,
        held: HeldLease,
        definition: JobDefinition,
        callbacks: Callbacks,
        settle: Callable[[HeldLease, Settlement], bool],
        on_end: Callable[[Attempt], Attempt | None],
        middleware: HandlerMiddleware = _NO_MIDDLEWARE,
    ) -> None:
        self._held = held
        self._definition = definition
        self._callbacks = callbacks
        self._settle = settle
        self._on_end = on_end
        self._middleware = middleware
        self._job: Any = None
        self._started_at = 0.0
        self.since = 0.0

    @property
    def held(self) -> HeldLease:
        return self._held

    @property
    def context(self) -> JobContext:
        return self._held.context

    @property
    def remaining(self) -> float | None:
        """Seconds until its timeout strikes, at least 0. None for no limit."""
        deadline = self._held.state.timeout_deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    @property
    def is_async(self) -> bool:
        return self._definition.is_async

    def begin(self) -> bool:
        """Decode the job. False when it is not to be run; that is then settled."""
        try:
            return self._begin()
        except BaseException as error:
            self._broken(error)
            return False

    def _begin(self) -> bool:
        held, definition = self._held, self._definition
        held.begun = True
        if (reason := held.state.cancellation.reason) is not None:
            if reason is CancelReason.STOPPING:
                self._settle(held, outcome.release(held.token))
            return False
        try:
            self._job = definition.decode(held.payload, held.content_type)
        except InvalidPayload as error:
            logger.warning(
                "%s is dead-lettered: its payload cannot be decoded: %s",
                held,
                undecodable.reason(error, definition),
            )
            self._decide(outcome.dead_letter(held.token, outcome.failure_of(error)), error)
            self._callbacks.errored(error)
            return False
        logger.debug("%s starts", held)
        self._callbacks.job_started(self._job)
        self._started_at = time.monotonic()
        if held.timeout is not None:
            held.state.timeout_deadline = self._started_at + held.timeout
        return True

    @property
    def needs_loop(self) -> bool:
        """Whether ``call_on_loop`` is to be used for a handler that is a plain function."""
        return self._middleware.needs_loop

    def call(self) -> Any:
        """Run the handler and what is around it: returns what it returns, maybe a coroutine."""
        if not self._middleware.wraps:
            return self._definition.run(self._job)
        if self._definition.is_async:
            return self._middleware.run_async(self._job, self.context, self._run)
        return self._middleware.run(self._job, self.context, self._run_here)

    def call_on_loop(self, in_thread: InThread) -> Coroutine[Any, Any, Any]:
        """Run the handler in a thread, and what is around it on the loop."""
        handler = partial(self._run_there, in_thread)
        return self._middleware.run_async(self._job, self.context, handler)

    def _run(self) -> Any:
        return self._definition.run(self._job)

    def _run_here(self) -> Any:
        value = self._run()
        if inspect.iscoroutine(value):  # a plain function that calls an async one
            return asyncio.run(until_ended(value, self.context.state.cancellation)).unwrap()
        return value

    async def _run_there(self, in_thread: InThread) -> Any:
        value = (await in_thread(self._run)).unwrap()
        return await value if inspect.iscoroutine(value) else value

    def time_out(self) -> None:
        if self._held.state.cancellation.cancel(CancelReason.TIMEOUT):
            logger.warning(
                "%s runs longer than its timeout of %g s", self._held, self.context.timeout
            )

    def conclude(self, result: Result) -> None:
        """Decide what becomes of the job, and tell the callbacks."""
        try:
            self._conclude(result)
        except BaseException as error:
            self._broken(error)

    def bury(self, result: Result, started_at: float) -> None:
        """Conclude without ``begin`` and ``call``: the process in which they were called is gone.

        ``started_at`` is when that was, on the monotonic clock.
        """
        self._started_at = started_at
        try:
            self._job = self._definition.decode(self._held.payload, self._held.content_type)
        except BaseException as error:
            self._broken(error)
        else:
            self.conclude(result)

    def settle(self, settlement: Settlement) -> bool:
        """Settle as was decided in another process. False if it comes too late."""
        return self._settle(self._held, settlement)

    def _broken(self, error: BaseException) -> None:
        """Code of the job beside its handler raised what nobody expects of it, such as SystemExit.

        That must not end the loop of a pool, nor leave a lease that nobody settles.
        """
        logger.error("%s failed outside its handler with %s", self._held, type(error).__name__)
        token = self._held.token
        self._decide(outcome.retry_by_policy(token, outcome.failure_of(error)), error)
        self._callbacks.errored(error)

    def _conclude(self, result: Result) -> None:
        reason = self._held.state.cancellation.close()
        if reason in (CancelReason.LEASE_LOST, CancelReason.JOB_CANCELLED):
            self._discard(reason)
        elif isinstance(result, Raised) and isinstance(result.error, JobControl):
            self._controlled(result.error)
        elif reason is CancelReason.STOPPING:
            logger.info("%s was stopped with the worker: released", self._held)
            self._decide(outcome.release(self._held.token), None)
        elif reason is CancelReason.TIMEOUT:
            error = JobTimeout(self.context.timeout or 0.0)
            error.__cause__ = result.error if isinstance(result, Raised) else None
            self._failed(error)
        elif isinstance(result, Raised):
            self._failed(result.error)
        else:
            self._returned(result.value)

    def end(self) -> Attempt | None:
        """Give the slot back; returns the attempt that has it now."""
        return self._on_end(self)

    @property
    def _milliseconds(self) -> float:
        return (time.monotonic() - self._started_at) * 1000

    def _returned(self, value: Any) -> None:
        try:
            encoded = self._encode(value)
        except InvalidResult as error:
            self._errored(error, outcome.dead_letter(self._held.token, outcome.failure_of(error)))
            return
        if self._decide(outcome.ack(self._held.token, encoded), None):
            logger.info("%s is done in %.0f ms", self._held, self._milliseconds)
            self._callbacks.job_completed(self._job, value)

    def _encode(self, value: Any) -> bytes:
        try:
            encoded = self._definition.encode_result(value, self._held.content_type)
        except Exception as error:
            raise InvalidResult(f"the handler's result cannot be encoded: {error}") from error
        most = self._held.state.max_result
        if len(encoded) > most:
            raise InvalidResult(
                f"the handler's result has {len(encoded)} bytes, at most {most} are kept: "
                "store it elsewhere and return a reference"
            )
        return encoded

    def _controlled(self, control: JobControl) -> None:
        settlement = outcome.of_control(self._held.token, control)
        if isinstance(control, Release):
            logger.info("%s was released on request", self._held)
            self._decide(settlement, control)
        else:
            self._errored(control, settlement)

    def _failed(self, error: BaseException) -> None:
        token, failure = self._held.token, outcome.failure_of(error)
        if not self._should_retry(error):
            self._errored(error, outcome.dead_letter(token, failure))
            return
        delay = self._retry_delay(error)
        if delay is None:
            self._errored(error, outcome.retry_by_policy(token, failure))
        else:
            self._errored(error, outcome.retry_after(token, failure, delay))

    def _errored(self, error: BaseException, settlement: Settlement) -> None:
        if self._decide(settlement, error):
            self._say_failed(error, outcome.of_settlement(settlement, self.context))
            self._callbacks.job_errored(self._job, error, outcome.trace_of(error))

    def _say_failed(self, error: BaseException, made: AttemptOutcome) -> None:
        if isinstance(error, Retry) and made is AttemptOutcome.RETRIED:
            logger.info("%s asks for another attempt", self._held)
            return
        name = type(error).__name__
        logger.warning(
            "%s failed with %s in %.0f ms: %s", self._held, name, self._milliseconds, made
        )

    def _should_retry(self, error: BaseException) -> bool:
        try:
            return self._definition.should_retry(self._job, error)
        except Exception as raised:
            self._hook_raised("should_retry", raised)
            return True

    def _retry_delay(self, error: BaseException) -> float | None:
        try:
            delay = self._definition.next_retry_delay(self._job, self.context.attempt, error)
        except Exception as raised:
            self._hook_raised("next_retry_delay", raised)
            return None
        return None if delay is None else delay.total_seconds()

    def _hook_raised(self, hook: str, raised: Exception) -> None:
        logger.error("%s of %s raised %s", hook, self._held, type(raised).__name__)
        self._callbacks.errored(raised)

    def _discard(self, reason: CancelReason) -> None:
        error: TowlineError
        if reason is CancelReason.JOB_CANCELLED:
            error = JobCancelled(self.context.id)
        else:
            error = LeaseLost(f"the lease of job {self.context.id} was lost while it ran")
        self._callbacks.job_errored(self._job, error, "")
        cancelled = reason is CancelReason.JOB_CANCELLED
        self._tell_end(AttemptOutcome.CANCELLED if cancelled else AttemptOutcome.LOST, error)

    def _decide(self, settlement: Settlement, error: BaseException | None) -> bool:
        """Settle so. False when it was settled before, as when the worker stops, or is lost."""
        taken = self._settle(self._held, settlement)
        if self._middleware.listens:
            made = outcome.of_settlement(settlement, self.context)
            self._tell_end(made if taken else AttemptOutcome.LOST, error)
        return taken

    def _tell_end(self, made: AttemptOutcome, error: BaseException | None) -> None:
        if self._middleware.listens:
            seconds = time.monotonic() - self._started_at
            end = AttemptEnd(self._job, self.context, made, error, seconds)
            self._middleware.ended(end, self._callbacks.errored)
