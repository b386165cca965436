"""What stands behind clients of ``sync://``."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, Unpack, get_args

from towline.context import CancelReason
from towline.errors import CallFailed, ConfigurationError, NotSupported, TowlineError
from towline.middleware import AttemptEnd
from towline.status import JobState, JobStatus, read_info
from towline.transport.interface import AsyncTransport, Transport
from towline.transport.sync.admission import check, rejected
from towline.transport.sync.calls import AsyncSyncTransport, SyncTransport
from towline.transport.sync.ledger import Ledger, first_delay
from towline.v1 import job_pb2, queue_service_pb2
from towline.worker import inline
from towline.worker.attempt import Attempt
from towline.worker.errors import UnknownJobType
from towline.worker.handlers import HandlerOptions, Handlers

logger = logging.getLogger("towline.sync")

Delays: TypeAlias = Literal["skip", "sleep", "refuse"]
Errors: TypeAlias = Literal["keep", "raise"]

MAX_DEPTH = 30
"""Jobs that dispatch each other, one inside the other: more are taken for a row without an end."""


class SyncBroker:
    """What stands behind clients of ``sync://``, made by hand for what an address cannot say.

        broker = SyncBroker(on_job_error=print)
        client = Client(broker)                     # or AsyncClient(broker)

    delays      "skip": a job with a delay runs at once, and backoff is passed over. "sleep": both
                are slept. "refuse": a dispatch with a delay raises NotSupported; backoff is skipped
    errors      "keep": a job that fails for good is dead, as anywhere. "raise": dispatch raises
                what its last attempt raised, once all is done; of jobs that jobs dispatched too
    registry, serializers, middleware, on_job_start, on_job_complete, on_job_error, on_error: as
    for Worker; what a middleware does around push is the client's

    A job of a type that has no handler here stays READY, as in a queue without workers. One that
    its handler releases runs again, at most ten times, and then stays as it is.

    ``jobs`` and ``dead`` tell what has become of the latest 10,000 jobs, and ``delays_of`` what a
    job would have waited. The constructor raises ConfigurationError.
    """

    def __init__(
        self,
        *,
        delays: Delays = "skip",
        errors: Errors = "keep",
        **options: Unpack[HandlerOptions],
    ) -> None:
        self._delays = _one_of(delays, "delays", get_args(Delays))
        self._errors = _one_of(errors, "errors", get_args(Errors))
        self._handlers = Handlers(_EndListener(), **options)
        self.ledger = Ledger()

    def transport(self) -> Transport:
        """For Client. Raises ConfigurationError if there is middleware that needs an event loop."""
        self._handlers.check_without_loop()
        return SyncTransport(self)

    def async_transport(self) -> AsyncTransport:
        """For AsyncClient."""
        return AsyncSyncTransport(self)

    @property
    def jobs(self) -> list[JobStatus]:
        """In the order in which they were dispatched."""
        return [read_info(info) for info in self.ledger.jobs()]

    @property
    def dead(self) -> list[JobStatus]:
        return [status for status in self.jobs if status.state is JobState.DEAD]

    def delays_of(self, job_id: str) -> list[float]:
        """The seconds that lay, or would have lain, before each attempt. Raises NotFound."""
        return self.ledger.delays(job_id)

    def push(
        self, request: queue_service_pb2.PushRequest, *, in_loop: bool
    ) -> tuple[queue_service_pb2.PushResponse, list[str]]:
        """Take jobs in; returns the ids of those that are to run now, too.

        ``in_loop``: whoever runs them can await handlers.
        """
        refused: dict[int, queue_service_pb2.PushResult] = {}
        taken = []
        for index, job in enumerate(request.jobs):
            try:
                self._check(job, f"jobs[{index}]", in_loop=in_loop)
            except CallFailed as error:
                if not request.allow_partial:
                    raise
                refused[index] = rejected(job, error)
            else:
                taken.append(job)
        stored = self.ledger.push(taken)
        in_order = iter(stored)
        results = [refused.get(index) or next(in_order) for index in range(len(request.jobs))]
        created = queue_service_pb2.PUSH_OUTCOME_CREATED
        new = [result.job_id for result in stored if result.outcome == created]
        return queue_service_pb2.PushResponse(results=results), new

    def _check(self, job: job_pb2.Job, path: str, *, in_loop: bool) -> None:
        check(job, path)
        if self._delays == "refuse" and first_delay(job) > 0:
            raise NotSupported(
                f"{job.type} is dispatched with a delay, and this client, told delays=refuse, "
                "does not wait",
                code="UNIMPLEMENTED",
                reason="STORE_CANNOT",
            )
        definition = self._handlers.definition(job.type)
        if definition is not None and definition.is_async and not in_loop and inline.loop_runs():
            raise ConfigurationError(f"{job.type}: {inline.NO_LOOP_INSIDE_A_LOOP}")
        if _nesting.get().depth >= MAX_DEPTH:
            raise ConfigurationError(
                f"{MAX_DEPTH} jobs run one inside the other, and the last one dispatches "
                f"{job.type}: jobs that dispatch each other without an end cannot run at once; "
                "use memory://, where they wait for their turn"
            )

    def steps(self, job_id: str) -> Iterator[float | Attempt]:
        """What is to be done for a job, in order: seconds to sleep, and attempts to run."""
        try:
            while (delay := self.ledger.next_delay(job_id)) is not None:
                if delay and self._delays == "sleep":
                    yield delay
                attempt = self._next_attempt(job_id)
                if attempt is None:
                    break
                yield attempt
        finally:
            self.ledger.abandon(job_id)
        status = read_info(self.ledger.get(job_id))
        if status.state is JobState.DEAD:
            _nesting.get().died(status)

    def _next_attempt(self, job_id: str) -> Attempt | None:
        job = self.ledger.get(job_id).job
        try:
            definition = self._handlers.runnable(job.type, job.queue)
        except UnknownJobType as error:
            logger.warning("job %s stays READY: nothing here runs type %s", job_id, job.type)
            self._handlers.callbacks.errored(error)
            return None
        held = self.ledger.lease(job_id, definition.timeout)
        if held is None:
            return None
        return self._handlers.attempt(held, definition, self.ledger.settle)

    def cancel(
        self, request: queue_service_pb2.CancelJobRequest
    ) -> queue_service_pb2.CancelJobResponse:
        results = []
        for job_id in request.ids:
            held = self.ledger.held(job_id)
            answer = self.ledger.cancel(job_id)
            if held is not None:
                held.state.cancellation.cancel(CancelReason.JOB_CANCELLED)
            results.append(queue_service_pb2.CancelResult(job_id=job_id, outcome=answer))
        return queue_service_pb2.CancelJobResponse(results=results)

    @contextlib.contextmanager
    def dispatching(self) -> Iterator[None]:
        """Around the jobs of one dispatch, and all that they dispatch in turn."""
        outer = _nesting.get()
        nesting = _Nesting(outer.depth + 1, outer.deaths if outer.depth else [])
        token = _nesting.set(nesting)
        try:
            yield
        finally:
            _nesting.reset(token)
        if self._errors == "raise" and not outer.depth and nesting.deaths:
            raise nesting.deaths[0]


@dataclass
class _Nesting:
    """Where we are when jobs dispatch jobs, and what has gone wrong since the outermost one.

    ``errors``: what each job's handler raised last, by its id.
    """

    depth: int = 0
    deaths: list[BaseException] = field(default_factory=list)
    errors: dict[str, BaseException] = field(default_factory=dict)

    def died(self, status: JobStatus) -> None:
        error = self.errors.get(status.id)
        if error is None:
            try:
                status.outcome()
            except TowlineError as failed:
                error = failed
        if error is not None:
            self.deaths.append(error)


_nesting: ContextVar[_Nesting] = ContextVar(
    "towline_sync_nesting",
    default=_Nesting(),  # noqa: B039 - of no dispatch: nothing is noted in it
)


class _EndListener:
    """A middleware that notes what handlers raise."""

    def ended(self, end: AttemptEnd) -> None:
        if end.error is not None:
            _nesting.get().errors[end.context.id] = end.error


def _one_of(value: object, name: str, allowed: Sequence[str]) -> Any:
    if value in allowed:
        return value
    raise ConfigurationError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
