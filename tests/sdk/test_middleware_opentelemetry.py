"""Tracing and Metrics: from the dispatch to the handler, over a real broker."""

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.sdk.both_clients import answer
from tests.sdk.fake_broker import duration
from tests.sdk.running import both_pools, fake_broker, working
from tests.support.broker_process import BrokerProcess
from towline import (
    AsyncClient,
    BrokerUnavailable,
    Client,
    ConfigurationError,
    JobRequest,
    Registry,
    Reject,
    Release,
    Worker,
    current_job,
    job,
)
from towline.middleware import Metrics, Tracing
from towline.worker.options import PoolName

PATIENCE = 30.0
registry = Registry()
FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@job(registry=registry, retention=60)
def look() -> dict[str, Any]:
    """What a handler sees of the trace that it runs in."""
    span = trace.get_current_span().get_span_context()
    tenant = baggage.get_baggage("tenant")
    return {"trace": f"{span.trace_id:032x}", "span": f"{span.span_id:016x}", "tenant": tenant}


@job(registry=registry, retention=60)
async def look_async() -> dict[str, Any]:
    seen: dict[str, Any] = look()
    return seen


@job(registry=registry, backoff=0, max_attempts=2, retention=60)
def flaky() -> None:
    if current_job().attempt == 1:
        raise ValueError("the-secret-of-the-test")


@job(registry=registry)
def raising(how: str) -> None:
    match how:
        case "release":
            raise Release
        case "reject":
            raise Reject
        case "late":
            assert current_job().wait_cancelled(20)
        case _:
            raise ValueError("the-secret-of-the-test")


class Spans:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture(scope="module")
def server() -> Iterator[BrokerProcess]:
    with BrokerProcess("memory:") as broker:
        yield broker


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).replace("[", ".").replace("]", "")


def ids(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def linked(span: ReadableSpan) -> list[tuple[str, str]]:
    return [
        (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in span.links
    ]


def told(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


@both_pools
@pytest.mark.parametrize("function", [look, look_async])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_handler_runs_in_a_span_that_is_linked_to_the_dispatch(
    server: BrokerProcess, queue: str, spans: Spans, pool: PoolName, function: Any, kind: Any
) -> None:
    tracing = Tracing(spans.provider)
    client = kind(server.address, middleware=[tracing])
    ours = spans.provider.get_tracer("test").start_as_current_span("request")
    with ours as request:
        handle = await answer(client.dispatch(function, queue=queue))
    worker = Worker(server.address, [queue], registry=registry, pool=pool, middleware=[tracing])
    with worker:
        seen = await answer(handle.result(PATIENCE))
    await answer(client.close())

    [push], [process] = spans.named(f"push {queue}"), spans.named(f"process {queue}")
    assert push.kind is SpanKind.PRODUCER
    assert push.parent == request.get_span_context()
    assert process.kind is SpanKind.CONSUMER
    assert process.parent is None
    assert linked(process) == [ids(push)]
    assert (seen["trace"], seen["span"]) == ids(process)
    assert told(push) == {
        "messaging.system": "towline",
        "messaging.operation.name": "push",
        "messaging.operation.type": "send",
        "messaging.destination.name": queue,
        "messaging.message.id": handle.id,
        "messaging.message.body.size": 2,
        "towline.job.type": function.job_class.job_type,
    }
    assert told(process) == {
        "messaging.system": "towline",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": queue,
        "messaging.message.id": handle.id,
        "towline.job.type": function.job_class.job_type,
        "towline.job.attempt": 1,
    }
    assert push.status.status_code is process.status.status_code is StatusCode.UNSET


def test_every_attempt_is_a_span_linked_to_the_dispatch_and_a_failed_one_says_so(
    server: BrokerProcess, queue: str, spans: Spans
) -> None:
    tracing = Tracing(spans.provider)
    with Client(server.address, middleware=[tracing]) as client:
        handle = client.dispatch(flaky, queue=queue)
        with Worker(server.address, [queue], registry=registry, middleware=[tracing]):
            handle.result(PATIENCE)
    [push] = spans.named(f"push {queue}")
    first, second = spans.named(f"process {queue}")
    assert linked(first) == linked(second) == [ids(push)]
    assert (told(first)["towline.job.attempt"], told(second)["towline.job.attempt"]) == (1, 2)
    assert told(first)["error.type"] == "ValueError"
    assert first.status.status_code is StatusCode.ERROR
    assert second.status.status_code is StatusCode.UNSET
    assert "secret" not in first.to_json()


@pytest.mark.parametrize("continued", [False, True])
def test_the_trace_of_the_dispatch_can_be_continued_and_baggage_travels_anyway(
    server: BrokerProcess, queue: str, spans: Spans, continued: bool
) -> None:
    tracing = Tracing(spans.provider, continue_trace=continued)
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        with Client(server.address, middleware=[tracing]) as client:
            handle = client.dispatch(look, queue=queue)
            with Worker(server.address, [queue], registry=registry, middleware=[tracing]):
                seen = handle.result(PATIENCE)
    finally:
        context.detach(token)
    [push], [process] = spans.named(f"push {queue}"), spans.named(f"process {queue}")
    parent = None if process.parent is None else f"{process.parent.span_id:016x}"
    assert parent == (ids(push)[1] if continued else None)
    trace_id = ids(push if continued else process)[0]
    assert seen == {"trace": trace_id, "span": ids(process)[1], "tenant": "acme"}


def test_a_batch_is_one_span_that_all_its_jobs_link_to(
    server: BrokerProcess, queue: str, spans: Spans
) -> None:
    tracing = Tracing(spans.provider)
    with Client(server.address, middleware=[tracing]) as client:
        handles = client.dispatch_batch([look.job() for _ in range(3)], queue=queue)
        client.dispatch_batch([JobRequest("x", queue="one"), JobRequest("x", queue="two")])
        with Worker(server.address, [queue], registry=registry, middleware=[tracing]):
            for handle in handles:
                handle.result(PATIENCE)
    [push], [mixed] = spans.named(f"push {queue}"), spans.named("push")
    assert told(push)["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in told(push)
    assert "messaging.destination.name" not in told(mixed)
    processed = spans.named(f"process {queue}")
    assert [linked(process) for process in processed] == [[ids(push)]] * 3
    assert {told(process)["messaging.message.id"] for process in processed} == {
        handle.id for handle in handles
    }


def test_a_job_that_brings_a_trace_of_its_own_keeps_it(
    server: BrokerProcess, queue: str, spans: Spans
) -> None:
    tracing = Tracing(spans.provider)
    with Client(server.address, middleware=[tracing]) as client:
        handle = client.dispatch(look, queue=queue, headers={"traceparent": FOREIGN})
        with Worker(server.address, [queue], registry=registry, middleware=[tracing]):
            handle.result(PATIENCE)
    [process] = spans.named(f"process {queue}")
    assert linked(process) == [tuple(FOREIGN.split("-")[1:3])]


@both_pools
@pytest.mark.parametrize(
    ("how", "error"),
    [("fail", "ValueError"), ("reject", "Reject"), ("late", "JobTimeout"), ("release", None)],
)
def test_a_failed_span_names_the_error_and_nothing_of_its_text(
    pool: PoolName, how: str, error: str | None, spans: Spans
) -> None:
    payload = b'{"how": "%s"}' % how.encode()
    with (
        fake_broker() as broker,
        working(broker, registry, pool=pool, middleware=[Tracing(spans.provider)]) as worker,
    ):
        broker.nack(broker.add("raising", payload, timeout=duration(0.2)))
        worker.stop()
    [process] = spans.named("process default")
    assert told(process).get("error.type") == error
    assert process.status.status_code is (StatusCode.UNSET if error is None else StatusCode.ERROR)
    assert process.links == ()
    assert not process.events
    assert "secret" not in process.to_json()


def test_exceptions_are_recorded_when_that_is_asked_for(spans: Spans) -> None:
    tracing = Tracing(spans.provider, record_exceptions=True)
    with fake_broker() as broker, working(broker, registry, middleware=[tracing]) as worker:
        broker.nack(broker.add("raising", b'{"how": "fail"}'))
        worker.stop()
    [process] = spans.named("process default")
    [event] = process.events
    assert event.attributes is not None
    assert event.attributes["exception.message"] == "the-secret-of-the-test"


def test_a_dispatch_that_fails_is_a_failed_span(spans: Spans) -> None:
    client = Client("127.0.0.1:1", middleware=[Tracing(spans.provider)], call_timeout=0.3)
    with client, pytest.raises(BrokerUnavailable):
        client.dispatch(look, queue="emails")
    [push] = spans.named("push emails")
    assert told(push)["error.type"] == "BrokerUnavailable"
    assert push.status.status_code is StatusCode.ERROR


class Points:
    """What was measured, by the name of the metric."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader])

    def of(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def counts(self, name: str, *by: str) -> dict[tuple[Any, ...], int]:
        counted: dict[tuple[Any, ...], int] = {}
        for point in self.of(name):
            key = tuple((point.attributes or {}).get(attribute) for attribute in by)
            is_count = isinstance(point, NumberDataPoint)
            counted[key] = int(point.value if is_count else point.count)
        return counted


@both_pools
def test_attempts_are_counted_and_timed_by_queue_type_and_outcome(pool: PoolName) -> None:
    points = Points()
    with (
        fake_broker() as broker,
        working(broker, registry, pool=pool, middleware=[Metrics(points.provider)]) as worker,
    ):
        for _ in range(2):
            broker.ack(broker.add("look", queue="default"))
        for how, attempt in (("fail", 1), ("fail", 3), ("reject", 1), ("release", 1)):
            broker.nack(broker.add("raising", b'{"how": "%s"}' % how.encode(), attempt=attempt))
        broker.nack(broker.add("look", b"{"))
        worker.stop()
    by = ("messaging.destination.name", "towline.job.type", "towline.job.outcome", "error.type")
    assert points.counts("towline.job.attempts", *by) == {
        ("default", "look", "succeeded", None): 2,
        ("default", "look", "dead", "InvalidPayload"): 1,
        ("default", "raising", "retried", "ValueError"): 1,
        ("default", "raising", "dead", "ValueError"): 1,
        ("default", "raising", "dead", "Reject"): 1,
        ("default", "raising", "released", None): 1,
    }
    expected = {("process", "look", None): 2, ("process", "raising", "ValueError"): 2}
    for name in ("messaging.process.duration", "messaging.client.consumed.messages"):
        counts = points.counts(name, "messaging.operation.name", "towline.job.type", "error.type")
        assert counts.items() >= expected.items()
    duration_point = points.of("messaging.process.duration")[0]
    assert isinstance(duration_point, HistogramDataPoint)
    assert duration_point.sum < PATIENCE
    assert duration_point.explicit_bounds[-1] == 3600
    for name in ("towline.job.attempts", "messaging.process.duration"):
        for point in points.of(name):
            assert "messaging.message.id" not in (point.attributes or {})


def test_dispatches_are_counted_and_timed(server: BrokerProcess) -> None:
    points = Points()
    middleware = [Metrics(points.provider)]
    with Client(server.address, middleware=middleware) as client:
        client.dispatch(look, queue="one")
        client.dispatch_batch([look.job() for _ in range(5)], queue="one")
        client.dispatch_batch([JobRequest("x", queue="one"), JobRequest("x", queue="two")])
    away = Client("127.0.0.1:1", middleware=middleware, call_timeout=0.3)
    with away, pytest.raises(BrokerUnavailable):
        away.dispatch(look, queue="one")
    by = ("messaging.operation.name", "messaging.destination.name", "error.type")
    assert points.counts("messaging.client.sent.messages", *by) == {
        ("push", "one", None): 7,
        ("push", "two", None): 1,
        ("push", "one", "BrokerUnavailable"): 1,
    }
    assert points.counts("messaging.client.operation.duration", *by) == {
        ("push", "one", None): 2,
        ("push", None, None): 1,
        ("push", "one", "BrokerUnavailable"): 1,
    }


@pytest.mark.parametrize("kind", [Tracing, Metrics])
def test_without_opentelemetry_the_extra_is_named(
    kind: type[Tracing] | type[Metrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("opentelemetry.trace", "opentelemetry.metrics"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=r"pip install 'towline\[otel\]'"):
        kind()


def test_importing_middleware_loads_neither_opentelemetry_nor_grpc() -> None:
    program = (
        "import sys, towline.middleware\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        "print(roots & {'grpc', 'google', 'opentelemetry'})"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"


def test_spans_of_jobs_that_run_side_by_side_do_not_mix(spans: Spans) -> None:
    own = Registry()
    barrier = threading.Barrier(4)

    @job(type="meet", registry=own)
    def meet() -> list[str]:
        before = trace.get_current_span().get_span_context().span_id
        barrier.wait(20)
        return [f"{before:x}", f"{trace.get_current_span().get_span_context().span_id:x}"]

    with (
        fake_broker() as broker,
        working(broker, own, pool="async", middleware=[Tracing(spans.provider)]),
    ):
        results = [broker.ack(one).result for one in [broker.add("meet") for _ in range(4)]]
    assert len(set(results)) == 4
