"""Spans of OpenTelemetry: of each dispatch, and of each attempt with a link to what created it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from towline.context import CancelReason, JobContext
from towline.middleware import conventions
from towline.middleware.conventions import BATCH, BODY_SIZE, DESTINATION, JOB_ATTEMPT, MESSAGE_ID

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

    from towline.middleware.outgoing import OutgoingJob

_STOPPED = {
    CancelReason.TIMEOUT: "JobTimeout",
    CancelReason.LEASE_LOST: "LeaseLost",
    CancelReason.JOB_CANCELLED: "JobCancelled",
}


class Tracing:
    """Spans by OpenTelemetry's conventions for messaging; needs ``towline[otel]``.

        Client(address, middleware=[Tracing()])       # push emails, kind PRODUCER
        Worker(address, middleware=[Tracing()])       # process emails, kind CONSUMER

    The trace context travels in the headers of the job, as the configured propagators write it
    (``traceparent`` by default); a job that brings such headers of its own keeps them. The span of
    an attempt begins a trace of its own, linked to the push, since it may run hours later and more
    than once. ``continue_trace`` makes it a child of the push instead.

    A failed span has the class of the exception as ``error.type``. Its text and traceback, in which
    there may be arguments of the job, are recorded only with ``record_exceptions``.

    Without a ``tracer_provider`` the global one is used. Raises ConfigurationError when the
    OpenTelemetry API is not installed.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        *,
        continue_trace: bool = False,
        record_exceptions: bool = False,
    ) -> None:
        self._trace = conventions.opentelemetry("opentelemetry.trace")
        self._propagate = conventions.opentelemetry("opentelemetry.propagate")
        self._context = conventions.opentelemetry("opentelemetry.context")
        self._tracer = self._trace.get_tracer("towline", tracer_provider=tracer_provider)
        self._continue_trace = continue_trace
        self._record_exceptions = record_exceptions

    def push(self, jobs: Sequence[OutgoingJob]) -> Iterator[None]:
        attributes = conventions.push_attributes(jobs)
        if len(jobs) == 1:
            attributes[MESSAGE_ID] = jobs[0].id
            attributes[BODY_SIZE] = len(jobs[0].payload)
            attributes[conventions.JOB_TYPE] = jobs[0].type
        else:
            attributes[BATCH] = len(jobs)
        name = f"push {attributes.get(DESTINATION, '')}".rstrip()
        kind = self._trace.SpanKind.PRODUCER
        with self._span(name, kind=kind, attributes=attributes):
            carrier: dict[str, str] = {}
            self._propagate.inject(carrier)
            for job in jobs:
                if carrier.keys().isdisjoint(job.headers):
                    job.headers.update(carrier)
            yield

    def handle(self, job: Any, context: JobContext) -> Iterator[None]:
        attributes = conventions.process_attributes(context)
        attributes[MESSAGE_ID] = context.id
        attributes[JOB_ATTEMPT] = context.attempt
        if context.display_name != context.type:
            attributes[conventions.JOB_DISPLAY_NAME] = context.display_name
        creator = self._propagate.extract(context.headers)
        created = self._trace.get_current_span(creator).get_span_context()
        links = [self._trace.Link(created)] if created.is_valid else []
        if not self._continue_trace:  # what else travels, such as baggage, holds in either case
            creator = self._trace.set_span_in_context(self._trace.INVALID_SPAN, creator)
        token = self._context.attach(creator)
        try:
            name = f"process {context.queue}"
            kind = self._trace.SpanKind.CONSUMER
            with self._span(name, kind=kind, attributes=attributes, links=links) as span:
                yield
                self._look_whether_stopped(span, context)
        finally:
            self._context.detach(token)

    @contextmanager
    def _span(self, name: str, **about: Any) -> Iterator[Span]:
        """A span that is current in here, and failed if what is raised in here is an error."""
        with self._tracer.start_as_current_span(
            name, record_exception=False, set_status_on_exception=False, **about
        ) as span:
            try:
                yield span
            except BaseException as error:
                if failed := conventions.error_type(error):
                    self._failed(span, str(failed[conventions.ERROR_TYPE]))
                    if self._record_exceptions:
                        span.record_exception(error)
                raise

    def _failed(self, span: Span, error_type: str) -> None:
        span.set_attribute(conventions.ERROR_TYPE, error_type)
        span.set_status(self._trace.StatusCode.ERROR, error_type)

    def _look_whether_stopped(self, span: Span, context: JobContext) -> None:
        """A plain function may return although its time is over: that counts for nothing."""
        if context.cancel_reason in _STOPPED:
            self._failed(span, _STOPPED[context.cancel_reason])
