"""Traces: what is measured of calls is sent to a collector of OpenTelemetry.

Where to and how much of it is said by the variables that OpenTelemetry itself has given names to
(OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER ...), which its operators and collectors know.
"""

import asyncio
import threading
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from towline_broker.server.configuration.telemetry_settings import TelemetrySettings
from towline_broker.server.exits import ConfigError

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from towline_broker.interceptors.wrapping import WrappingInterceptor

#: Seconds for the last spans at the end, if the collector does not answer.
LAST_SPANS = 3.0


class Telemetry:
    """``provider``: None if nothing is traced."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider
        self._sdk: Any = None

    @classmethod
    def of(cls, settings: TelemetrySettings, version: str) -> Self:
        """Raises ConfigError if that is not installed."""
        if settings.traces == "off":
            return cls()
        try:
            sdk = import_module("opentelemetry.sdk.trace")
            export = import_module("opentelemetry.sdk.trace.export")
            resources = import_module("opentelemetry.sdk.resources")
            otlp = import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
        except ModuleNotFoundError as error:
            raise ConfigError(
                "telemetry.traces: otlp needs OpenTelemetry: pip install 'towline-broker[otel]' "
                f"({error})"
            ) from None
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say is laid over these.
        resource = resources.Resource.create()
        named = {"service.name": "towline-broker", "service.version": version}
        if not resource.attributes["service.name"].startswith("unknown_service"):
            del named["service.name"]
        provider = sdk.TracerProvider(resource=resource.merge(resources.Resource(named)))
        provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
        made = cls(provider)
        made._sdk = provider
        return made

    def interceptors(self, version: str) -> "list[WrappingInterceptor]":
        """For where requests are messages."""
        if self._provider is None:
            return []
        tracing = import_module("towline_broker.interceptors.tracing")
        return [tracing.TracingInterceptor(self._provider, version)]

    async def stop(self) -> None:
        """Sends what is left, for up to :data:`LAST_SPANS` seconds."""
        if self._sdk is None:
            return
        sdk, self._sdk = self._sdk, None
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            sdk.shutdown()
            with suppress(RuntimeError):  # it took too long, and the loop is closed
                loop.call_soon_threadsafe(sent.set)

        # No thread of a pool: a process waits for those before it ends.
        threading.Thread(target=send, daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SPANS):
                await sent.wait()
