"""A worker that runs jobs in the thread or the task of a test, one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Unpack

from towline.context import CancelReason
from towline.control import Retry
from towline.errors import BrokerError
from towline.middleware import AttemptEnd, AttemptOutcome
from towline.v1 import job_pb2
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    HeartbeatRequest,
    LeaseHeartbeat,
    LeaseOutcome,
    NackRequest,
    QueueChoice,
    ReserveRequest,
    SettleResult,
)
from towline.worker import Worker, inline, outcome
from towline.worker.acceptance import FIRST_DELAY
from towline.worker.attempt import Attempt
from towline.worker.errors import UnknownJobType
from towline.worker.handlers import HandlerOptions, Handlers
from towline.worker.leases import HeldLease, Settlement, hold, progress_message

if TYPE_CHECKING:
    from towline.testing.harness import Harness

MAX_ATTEMPTS = 1000
"""What one call runs at most: beyond that, jobs seem to dispatch each other without an end."""

LEASE = timedelta(hours=12)
"""A test is over before; no heartbeat is needed."""

CALL_TIMEOUT = 30.0
"""Seconds. The broker is in this process."""

MAX_QUEUES = 100
"""Of one Reserve."""


class JobsFailed(AssertionError):
    """Jobs that a test had run have failed. ``attempts`` are the last ones of each of them."""

    def __init__(self, attempts: Sequence[AttemptEnd]) -> None:
        lines = [f"{len(attempts)} job{'s' * (len(attempts) > 1)} failed:"]
        for end in attempts:
            told = f"{type(end.error).__name__}: {end.error}"
            what = end.job if end.job is not None else end.context.type
            lines.append(f"  {what!r}, attempt {end.context.attempt}, {end.outcome}: {told}")
        super().__init__("\n".join(lines))
        self.attempts = attempts


class InlineWorker:
    """Runs the jobs of a Harness where ``run_all`` is called: no thread, no waiting.

    A handler sees what the test sees, such as an open database transaction. Jobs, retries and dead
    letters are the broker's all the same. ``queues``: by default all that there are, by name.
    ``options`` are those of Worker about single jobs: registry, serializers, middleware and
    callbacks. Raises ConfigurationError.
    """

    def __init__(
        self,
        harness: Harness,
        queues: Iterable[str] | None = None,
        **options: Unpack[HandlerOptions],
    ) -> None:
        self._harness = harness
        self._queues = None if queues is None else list(queues)
        self._options = options
        self._ended: dict[str, AttemptEnd] = {}
        self._handlers = Handlers(self, **options)
        self._service = harness.client.queue_service
        self._worker_id = f"test-{uuid.uuid4()}"

    def ended(self, end: AttemptEnd) -> None:
        """Called as a middleware is: notes how an attempt ended."""
        self._ended[end.context.lease_token] = end

    def run_one(self, *, check: bool = True) -> AttemptEnd | None:
        """Run the job that is next, if one is READY; ``check`` as for ``run_all``."""
        ends = self._run(max_attempts=1, delayed=False)
        return _checked(ends, check)[0] if ends else None

    def run_all(self, *, delayed: bool = False, check: bool = True) -> list[AttemptEnd]:
        """Run jobs until none is READY, those that they dispatch among them.

        Returns how each attempt ended, in their order. ``delayed``: also what waits for its time,
        by delay or for its next attempt; the broker's clock is set forward to each.

        Raises JobsFailed, when all is done, if a job is dead now or has failed and waits for its
        next attempt (unless its handler asked for that by Retry); not with ``check=False``. Raises
        AssertionError if there is no end to it after 1,000 attempts.
        """
        return _checked(self._run(max_attempts=None, delayed=delayed), check)

    async def run_one_async(self, *, check: bool = True) -> AttemptEnd | None:
        """run_one, from a coroutine: async handlers run in the event loop of the test."""
        ends = await self._run_async(max_attempts=1, delayed=False)
        return _checked(ends, check)[0] if ends else None

    async def run_all_async(self, *, delayed: bool = False, check: bool = True) -> list[AttemptEnd]:
        """run_all, from a coroutine: async handlers run in the event loop of the test."""
        ends = await self._run_async(max_attempts=None, delayed=delayed)
        return _checked(ends, check)

    @contextlib.contextmanager
    def background(self, **options: Any) -> Iterator[Worker]:
        """Have a real Worker work in the background, for the length of the block.

        ``options`` are those of Worker. Its queues are those that there are now and those that
        the known types of jobs name, unless the constructor was given others.
        """
        queues = self._queues
        if queues is None:
            queues = sorted({*self._harness.queues(), *self._handlers.queues()})
        with Worker(self._harness.client, queues, **{**self._options, **options}) as worker:
            yield worker

    def _run(self, *, max_attempts: int | None, delayed: bool) -> list[AttemptEnd]:
        self._handlers.check_without_loop()
        ends: list[AttemptEnd] = []
        for attempt in self._attempts(ends, max_attempts, delayed):
            inline.run(attempt)
        return ends

    async def _run_async(self, *, max_attempts: int | None, delayed: bool) -> list[AttemptEnd]:
        ends: list[AttemptEnd] = []
        for attempt in self._attempts(ends, max_attempts, delayed):
            await inline.run_async(attempt)
        return ends

    def _attempts(
        self, ends: list[AttemptEnd], max_attempts: int | None, delayed: bool
    ) -> Iterator[Attempt]:
        """What is to be run, each as soon as the one before it is settled."""
        while True:
            lease = self._reserve()
            if lease is None:
                if delayed and self._harness.travel_to_next():
                    continue
                return
            if len(ends) == MAX_ATTEMPTS:
                nack = outcome.release(lease.lease_token)
                self._service.Nack(NackRequest(nacks=[nack]), timeout=CALL_TIMEOUT)
                raise AssertionError(
                    f"{MAX_ATTEMPTS} attempts were run and {lease.job.type} is next: do jobs "
                    "dispatch each other without an end?"
                )
            yield from self._attempt(lease, ends)
            if len(ends) == max_attempts:
                return

    def _reserve(self) -> job_pb2.Lease | None:
        names = self._harness.queues() if self._queues is None else self._queues
        for start in range(0, len(names), MAX_QUEUES):
            request = ReserveRequest(
                queues=[QueueChoice(name=name) for name in names[start : start + MAX_QUEUES]],
                worker_id=self._worker_id,
                request_id=str(uuid.uuid4()),
            )
            request.lease.FromTimedelta(LEASE)
            for lease in self._service.Reserve(request, timeout=CALL_TIMEOUT).leases:
                return lease
        return None

    def _attempt(self, lease: job_pb2.Lease, ends: list[AttemptEnd]) -> Iterator[Attempt]:
        job = lease.job
        definition = self._handlers.definition(job.type)
        held = hold(
            lease, None if definition is None else definition.timeout, lambda: self._report(held)
        )
        try:
            definition = self._handlers.runnable(job.type, job.queue)
        except UnknownJobType as error:
            self._settle(held, outcome.release(held.token, outcome.failure_of(error), FIRST_DELAY))
            ends.append(AttemptEnd(None, held.context, AttemptOutcome.RELEASED, error, 0.0))
            self._handlers.callbacks.errored(error)
            return
        settlements: list[Settlement] = []

        def settle(_: HeldLease, settlement: Settlement) -> bool:
            settlements.append(settlement)
            return len(settlements) == 1

        yield self._handlers.attempt(held, definition, settle)
        end = self._ended.pop(held.token)
        if settlements and not self._settle(held, settlements[0]):
            end = dataclasses.replace(end, outcome=AttemptOutcome.LOST)
        ends.append(end)

    def _settle(self, held: HeldLease, settlement: Settlement) -> bool:
        """Tell the broker; False if that came too late."""
        results: Sequence[SettleResult]
        if isinstance(settlement, Ack):
            request = AckRequest(acks=[settlement])
            results = self._service.Ack(request, timeout=CALL_TIMEOUT).results
        else:
            nacks = NackRequest(nacks=[settlement])
            results = self._service.Nack(nacks, timeout=CALL_TIMEOUT).results
        if results[0].outcome == LeaseOutcome.LEASE_OUTCOME_REJECTED:
            raise BrokerError(f"the outcome of {held} was refused: {results[0].error.message}")
        return results[0].outcome == LeaseOutcome.LEASE_OUTCOME_OK

    def _report(self, held: HeldLease) -> None:
        """Tell the broker the progress of a job, and hear whether it is still to go on."""
        unsent = held.state.reports.unsent()
        if unsent is None:
            return
        version, progress = unsent
        heartbeat = LeaseHeartbeat(lease_token=held.token, progress=progress_message(progress))
        request = HeartbeatRequest(worker_id=self._worker_id, leases=[heartbeat])
        [result] = self._service.Heartbeat(request, timeout=CALL_TIMEOUT).results
        held.state.reports.sent(version)
        if result.outcome == LeaseOutcome.LEASE_OUTCOME_CANCELLED:
            held.state.cancellation.cancel(CancelReason.JOB_CANCELLED)
        elif result.outcome != LeaseOutcome.LEASE_OUTCOME_OK:
            held.state.cancellation.cancel(CancelReason.LEASE_LOST)


def _checked(ends: list[AttemptEnd], check: bool) -> list[AttemptEnd]:
    latest = {end.context.id: end for end in ends}
    failed = [end for end in latest.values() if _has_failed(end)]
    if failed and check:
        raise JobsFailed(failed) from failed[0].error
    return ends


def _has_failed(end: AttemptEnd) -> bool:
    if end.outcome is AttemptOutcome.RETRIED:
        return not isinstance(end.error, Retry)
    return end.outcome is AttemptOutcome.DEAD or isinstance(end.error, UnknownJobType)
