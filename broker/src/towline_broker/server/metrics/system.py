"""What the operating system knows of this process: the usual ``process_...`` of Prometheus."""

from collections.abc import Iterator

from prometheus_client import ProcessCollector

from towline_broker.server.metrics.families import Family, Kind, Row, Rows, Scope

_COLLECTOR = ProcessCollector(registry=None)


def of_system() -> Iterator[Rows]:
    """Nothing where there is no /proc."""
    for metric in _COLLECTOR.collect():
        rows = [Row((), sample.value) for sample in metric.samples]
        yield Family(metric.name, Kind(metric.type), Scope.PROCESS, (), metric.documentation), rows
