"""A span of OpenTelemetry for each call, within the trace of who made it and linked to the creators
of its jobs."""

import time
from collections.abc import Sequence
from typing import Any

import grpc
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
)

from towline_broker.domain.errors import TowlineError
from towline_broker.interceptors import spans
from towline_broker.interceptors.subjects import (
    PUSH,
    QUEUE_SERVICE,
    RESERVE,
    Headers,
    subject_of,
)
from towline_broker.interceptors.wrapping import Behaviour, WrappingInterceptor
from towline_broker.status import internal_error, wire_error
from towline_broker.streaming import STREAMS, stream_scope

#: Creators that a span is linked to: a batch may hold jobs of a thousand.
MOST_LINKS = 32
#: Every worker sends one after the other, and they say nothing.
UNTRACED = QUEUE_SERVICE + "Heartbeat"
STATUS_CODE = "rpc.response.status_code"
#: Codes that tell of a fault of the server (OpenTelemetry's conventions for gRPC).
FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class TracingInterceptor(WrappingInterceptor):
    """Stands where requests are messages. A span is made once the call is over, with the times at
    which it began and ended: nothing below has spans of its own, and a call that is not sampled
    costs no more than the decision."""

    def __init__(self, provider: TracerProvider, version: str) -> None:
        self._tracer = trace.get_tracer("towline-broker", version, tracer_provider=provider)

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        if method == UNTRACED:
            return behaviour

        if method in STREAMS:
            return self._wrap_stream(behaviour)

        async def traced(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            began = time.time_ns()
            try:
                reply = await behaviour(request, context)
            except Exception as error:
                self._tell(method, context, began, request, None, error)
                # See the interceptor of errors: the frame is kept, and with it the request.
                request = None
                raise
            self._tell(method, context, began, request, reply, None)
            return reply

        return traced

    def _wrap_stream(self, behaviour: Behaviour) -> Behaviour:
        """Spans as of the calls that would have done what its messages ask for."""

        async def traced(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            def observe(
                method: str, request: Any, reply: Any, began: int, error: Exception | None
            ) -> None:
                self._tell(method, context, began, request, reply, error)

            stream_scope().observe = observe
            return await behaviour(requests, context)

        return traced

    def _tell(
        self,
        method: str,
        context: grpc.aio.ServicerContext[Any, Any],
        began: int,
        request: Any,
        reply: Any,
        error: Exception | None,
    ) -> None:
        subject = subject_of(method, request, reply)
        if method == RESERVE and error is None and not subject.count:
            return  # it only looked, and workers look all the time
        name, attributes = spans.name_and_attributes(method, subject)
        creators = self._creators(subject.headers)
        caller = _caller(context)
        if method == PUSH and len(creators) == 1 and not _span_in(caller).is_valid:
            # The SDK sends the trace in the headers of jobs only: there its own span is current.
            caller = trace.set_span_in_context(trace.NonRecordingSpan(creators[0]), caller)
        parent = _span_in(caller)
        links = [Link(each) for each in creators if each.span_id != parent.span_id]
        span = self._tracer.start_span(*(name, caller, SpanKind.SERVER, attributes, links, began))
        _end(span, error)

    def _creators(self, headers: Sequence[Headers]) -> list[SpanContext]:
        fields = propagate.get_global_textmap().fields
        found = (
            _span_in(propagate.extract(each, Context()))
            for each in spans.distinct(headers, fields, MOST_LINKS)
        )
        return [created for created in found if created.is_valid]


def _caller(context: grpc.aio.ServicerContext[Any, Any]) -> Context:
    """The span that is named by the metadata of the call, as instrumented clients of gRPC send it;
    and what else travels with it."""
    metadata = context.invocation_metadata() or ()
    texts = {key: value for key, value in metadata if isinstance(value, str)}
    return propagate.extract(texts, Context())


def _span_in(context: Context) -> SpanContext:
    return trace.get_current_span(context).get_span_context()


def _end(span: Span, error: Exception | None) -> None:
    if error is None:
        span.set_attribute(STATUS_CODE, grpc.StatusCode.OK.name)
    else:
        wire = wire_error(error) if isinstance(error, TowlineError) else internal_error("")
        span.set_attribute(STATUS_CODE, wire.code.name)
        span.set_attribute("error.type", wire.reason)
        if wire.code in FAULTS:
            span.set_status(Status(StatusCode.ERROR))
    span.end()
