"""A job may have a name for people, which travels with it and is shown where people look."""

import logging
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.sdk.running import Heard, both_pools, fake_broker, working
from towline import InvalidJob, Job, Registry, current_job, job
from towline.middleware import Tracing
from towline.requests import job_message


@pytest.fixture
def registry() -> Registry:
    return Registry()


class TestDisplayNames:
    HEADER = "towline-display-name"

    def test_a_name_travels_in_a_header_if_there_is_one(self, registry: Registry) -> None:
        class Mail(Job, registry=registry):
            display_name = "Welcome mail"

        class Plain(Job, registry=registry):
            pass

        assert dict(job_message(Mail(), None, {}).headers) == {self.HEADER: "Welcome mail"}
        assert dict(job_message(Plain(), None, {}).headers) == {}

    def test_it_may_be_a_method_a_property_or_a_function_of_the_job(
        self, registry: Registry
    ) -> None:
        class Method(Job, registry=registry):
            to: str

            def display_name(self) -> str | None:
                return f"Mail to {self.to}" if self.to else None

        class Property(Job, registry=registry):
            to: str

            @property
            def display_name(self) -> str:  # type: ignore[override]
                return f"Mail to {self.to}"

        @job(registry=registry, display_name=lambda made: f"Mail to {made.to}")
        def function(to: str) -> None: ...

        for made in (Method(to="Ann"), Property(to="Ann"), function.job("Ann")):
            assert job_message(made, None, {}).headers[self.HEADER] == "Mail to Ann"
        assert self.HEADER not in job_message(Method(to=""), None, {}).headers

    def test_a_dispatch_may_say_otherwise(self, registry: Registry) -> None:
        class Mail(Job, registry=registry):
            display_name = "Mail"

        options = {"display_name": "  One\nline ", "headers": {"a": "b"}}
        message = job_message(Mail(), None, options)
        assert dict(message.headers) == {"a": "b", self.HEADER: "One line"}
        assert job_message("Mail", {}, {"display_name": "x"}).headers[self.HEADER] == "x"
        assert len(job_message("Mail", {}, {"display_name": "x" * 999}).headers[self.HEADER]) == 128
        with pytest.raises(
            InvalidJob, match=r"Mail\.display_name: expected a string, got a function"
        ):
            job_message("Mail", {}, {"display_name": lambda made: "x"})

    def test_what_a_method_returns_is_checked(self, registry: Registry) -> None:
        class Mail(Job, registry=registry):
            def display_name(self) -> Any:
                return 5

        with pytest.raises(InvalidJob, match=r"Mail\.display_name: expected a string, got 5"):
            job_message(Mail(), None, {})


@both_pools
def test_logs_callbacks_and_spans_tell_it(
    pool: str, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    names: list[str] = []

    @job(registry=registry)
    def work() -> None:
        current_job().logger.info("working")

    def started(job: object) -> None:
        names.append(current_job().display_name)

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    options = {"middleware": [Tracing(provider)], "on_job_start": started}
    heard = Heard()
    caplog.set_level(logging.INFO, "towline")
    with fake_broker() as broker, working(broker, registry, heard, pool=pool, **options) as worker:
        header = {TestDisplayNames.HEADER: "Mail to Ann"}
        named, plain = broker.add("work", headers=header), broker.add("work")
        for job_id in (named, plain):
            broker.ack(job_id)
        worker.stop()
    lines = [record.getMessage() for record in caplog.records if "is done" in record.msg]
    assert any(line.startswith(f'job {named} "Mail to Ann" (work, attempt 1)') for line in lines)
    assert any(line.startswith(f"job {plain} (work, attempt 1)") for line in lines)
    assert sorted(names) == ["Mail to Ann", "work"]
    said = {
        record.__dict__["job_display_name"]
        for record in caplog.records
        if record.name == "towline.job"
    }
    assert said == {"Mail to Ann", "work"}
    told = [
        (span.attributes or {}).get("towline.job.display_name")
        for span in spans.get_finished_spans()
    ]
    assert sorted(told, key=str) == ["Mail to Ann", None]
