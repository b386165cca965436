"""What can be set of traces. Where they are sent to is said by variables that OpenTelemetry itself
has given names to: :mod:`~towline_broker.server.telemetry`."""

from typing import Annotated, Literal

from towline_broker.server.configuration.marks import AT_START, Section


class TelemetrySettings(Section):
    traces: Annotated[Literal["off", "otlp"], AT_START] = "off"
    """Whether a span of each call is sent, by OTLP over gRPC, to the collector that the variable
    OTEL_EXPORTER_OTLP_ENDPOINT names."""
