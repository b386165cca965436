"""What is traced of calls: one trace from the producer through the broker to the handler."""

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from tests.support.broker_process import BrokerProcess
from towline import Client, Registry, Worker, job
from towline.middleware import Tracing
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2_grpc import QueueServiceStub
from towline_broker.server.serving import BrokerServer, running_broker
from towline_broker.server.telemetry import Telemetry

PATIENCE = 30.0
GUIDE = Path(__file__).parents[2] / "docs" / "tracing.md"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
registry = Registry()


@job(registry=registry, retention=60)
def send_email(to: str) -> str:
    return f"sent to {to}"


class Spans:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def all(self) -> list[ReadableSpan]:
        """By the time of their beginning."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def one(self, name: str, kind: SpanKind = SpanKind.SERVER) -> ReadableSpan:
        [found] = [span for span in self.all if (span.name, span.kind) == (name, kind)]
        return found


@pytest.fixture
def spans() -> Spans:
    return Spans()


async def with_stub(spans: Spans, use: Callable[[QueueServiceStub], None]) -> None:
    """Against a broker that traces."""

    def call(address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            use(QueueServiceStub(channel))

    async with running_broker(telemetry=Telemetry(spans.provider)) as server:
        await asyncio.to_thread(call, str(server.address))


def of(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def links(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def dispatch_and_work(server: BrokerServer, spans: Spans, *, continue_trace: bool) -> None:
    tracing = Tracing(spans.provider, continue_trace=continue_trace)
    address = str(server.address)
    with Client(address, middleware=[tracing]) as client:
        request = spans.provider.get_tracer("shop").start_as_current_span("POST /orders")
        with request:
            handle = client.dispatch(send_email, to="ada@example.org", queue="emails")
        worker = Worker(address, ["emails"], registry=registry, middleware=[tracing])
        with worker:
            assert handle.result(PATIENCE) == "sent to ada@example.org"


async def traced(spans: Spans, *, continue_trace: bool) -> None:
    async with running_broker(telemetry=Telemetry(spans.provider)) as server:
        await asyncio.to_thread(dispatch_and_work, server, spans, continue_trace=continue_trace)


async def test_a_job_is_one_trace_from_its_producer_through_the_broker_to_its_handler(
    spans: Spans,
) -> None:
    await traced(spans, continue_trace=True)
    produced, pushed = spans.one("push emails", SpanKind.PRODUCER), spans.one("push emails")
    reserved, acked = spans.one("reserve emails"), spans.one("ack emails")
    processed = spans.one("process emails", SpanKind.CONSUMER)
    assert {of(span)[0] for span in (produced, pushed, processed)} == {of(produced)[0]}
    assert pushed.parent is not None
    assert pushed.parent.span_id == of(produced)[1]
    assert links(reserved) == [of(produced)]
    about = [dict(span.attributes or {}) for span in (pushed, reserved, acked)]
    assert {each["messaging.message.id"] for each in about} == {
        (processed.attributes or {})["messaging.message.id"]
    }
    assert {each["messaging.destination.name"] for each in about} == {"emails"}
    kinds = [each["messaging.operation.type"] for each in about]
    assert kinds == ["send", "receive", "settle"]
    assert about[1]["messaging.client.id"]


def as_text(spans: list[ReadableSpan]) -> str:
    """Each span below its parent, with what it tells; ids in words."""
    by_id = {of(span)[1]: span for span in spans}
    names = {"messaging.message.id": "<id of the job>", "messaging.client.id": "<id of the worker>"}
    lines = []

    def tell(span: ReadableSpan, depth: int) -> None:
        indent = "  " * depth
        lines.append(f"{indent}{span.name}  [{span.kind.name}]")
        for name, value in sorted((span.attributes or {}).items()):
            lines.append(f"{indent}    {name} = {names.get(name, value)}")
        for _, linked in links(span):
            lines.append(
                f"{indent}    linked to: {by_id[linked].name}  [{by_id[linked].kind.name}]"
            )
        for child in spans:
            if child.parent is not None and child.parent.span_id == of(span)[1]:
                tell(child, depth + 1)

    for span in spans:
        if span.parent is None:
            tell(span, 0)
    return "\n".join(lines)


async def test_the_trace_in_the_documentation_is_the_one_that_is_made(spans: Spans) -> None:
    """TOWLINE_WRITE_DOCS=1 writes it anew."""
    await traced(spans, continue_trace=True)
    head, mark, rest = GUIDE.read_text().partition("<!-- trace -->\n```text\n")
    assert mark
    _, fence, tail = rest.partition("\n```\n")
    # Whoever waits for the result asks for it at the same time.
    shown = [span for span in spans.all if not span.name.endswith("/GetJob")]
    text = head + mark + as_text(shown) + fence + tail
    if os.environ.get("TOWLINE_WRITE_DOCS"):
        GUIDE.write_text(text)
    assert GUIDE.read_text() == text


async def test_spans_hold_neither_payloads_nor_tokens(spans: Spans) -> None:
    await traced(spans, continue_trace=False)
    assert "ack emails" in [span.name for span in spans.all]
    told = "".join(span.to_json() for span in spans.all)
    assert "ada@example.org" not in told
    assert "lease_token" not in told


async def test_the_metadata_of_a_call_name_its_trace(spans: Spans) -> None:
    def push(stub: QueueServiceStub) -> None:
        headers = {"traceparent": CALLER.replace("b7ad", "0000")}
        jobs = [Job(queue="q", type="T", headers=headers), Job(queue="r", type="T")]
        stub.Push(pb.PushRequest(jobs=jobs), metadata=(("traceparent", CALLER),))

    await with_stub(spans, push)
    span = spans.one("push")
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" in CALLER
    [(_, creator)] = links(span)
    assert f"{creator:016x}" == "00006b7169203331"
    assert (span.attributes or {})["messaging.batch.message_count"] == 2


async def test_a_reserve_that_finds_nothing_and_a_heartbeat_are_no_spans(spans: Spans) -> None:
    def look(stub: QueueServiceStub) -> None:
        stub.Reserve(pb.ReserveRequest(queues=[pb.QueueChoice(name="q")]))
        stub.Heartbeat(pb.HeartbeatRequest(leases=[pb.LeaseHeartbeat(lease_token="x")]))

    await with_stub(spans, look)
    assert not spans.all


async def test_a_refused_call_is_told_by_its_code_and_is_no_fault_of_the_broker(
    spans: Spans,
) -> None:
    def refused(stub: QueueServiceStub) -> None:
        with pytest.raises(grpc.RpcError):
            stub.Push(pb.PushRequest(jobs=[Job(queue="no name", type="T")]))

    await with_stub(spans, refused)
    [span] = spans.all
    assert (span.attributes or {})["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert (span.attributes or {})["error.type"] == "INVALID_FIELD"
    assert span.status.status_code is StatusCode.UNSET


async def test_what_is_not_sampled_is_served_all_the_same() -> None:
    spans = Spans()
    spans.provider = TracerProvider(sampler=ALWAYS_OFF)

    def push(stub: QueueServiceStub) -> None:
        assert stub.Push(pb.PushRequest(jobs=[Job(queue="q", type="T")])).results

    await with_stub(spans, push)
    assert not spans.all


class Collector(collector_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.received: list[collector.ExportTraceServiceRequest] = []

    def Export(  # noqa: N802 -- so the protocol calls it
        self, request: collector.ExportTraceServiceRequest, context: object
    ) -> collector.ExportTraceServiceResponse:
        self.received.append(request)
        return collector.ExportTraceServiceResponse()


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    service = Collector()
    collector_grpc.add_TraceServiceServicer_to_server(  # type: ignore[no-untyped-call]  # generated
        service, server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield service, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_spans_reach_a_collector_the_last_of_them_as_the_broker_stops() -> None:
    with collecting() as (service, endpoint):
        environment = {
            "TOWLINE_TELEMETRY__TRACES": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "60000",
        }
        with BrokerProcess("memory:", environment=environment) as broker:
            with Client(broker.address) as client:
                client.dispatch("T", {}, queue="emails")
            broker.stop()
    [batch] = [each for request in service.received for each in request.resource_spans]
    resource = {each.key: each.value.string_value for each in batch.resource.attributes}
    assert resource["service.name"] == "towline-broker"
    assert resource["service.version"]
    assert [span.name for span in batch.scope_spans[0].spans] == ["push emails"]


def test_a_collector_that_does_not_answer_holds_up_neither_calls_nor_the_end() -> None:
    environment = {
        "TOWLINE_TELEMETRY__TRACES": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    }
    with BrokerProcess("memory:", environment=environment) as broker:
        with Client(broker.address) as client:
            client.dispatch("T", {}, queue="emails")
        broker.stop()
        assert broker.returncode == 0
