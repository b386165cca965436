"""Rows as text that Prometheus reads, in pieces: other work goes on in between."""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import cast

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import CollectorRegistry

from towline_broker.server.metrics.families import Distribution, Family, Kind, Row, Rows

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Rows that are written before others have a turn of the event loop: a millisecond or two. A row of
#: a histogram is a line for each of its bounds.
PIECE = 300
PIECE_OF_HISTOGRAMS = 20

#: The lines # HELP and # TYPE, in front of the first piece only.
_HEADER_LINES = 2


async def render(figures: Iterable[Rows]) -> bytes:
    """A family without rows is not shown."""
    parts: list[bytes] = []
    for family, rows in figures:
        for number, piece in enumerate(_pieces(family, rows)):
            text = _text(_metric(family, piece))
            parts.append(text if number == 0 else text.split(b"\n", _HEADER_LINES)[-1])
            await asyncio.sleep(0)
    return b"".join(parts)


def _pieces(family: Family, rows: Iterable[Row]) -> Iterator[list[Row]]:
    size = PIECE_OF_HISTOGRAMS if family.kind is Kind.HISTOGRAM else PIECE
    remaining = iter(rows)
    while piece := list(islice(remaining, size)):
        yield piece


def _metric(family: Family, rows: Iterable[Row]) -> Metric:
    if family.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, value in rows:
            its = cast(Distribution, value)
            bounds = zip((*map(str, its.bounds), "+Inf"), (*its.up_to, its.count), strict=True)
            buckets = [(bound, float(count)) for bound, count in bounds]
            histogram.add_metric(labels, buckets, its.seconds)
        return histogram
    kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in rows:
        metric.add_metric(labels, cast(float, value))
    return metric


def _text(metric: Metric) -> bytes:
    return generate_latest(cast(CollectorRegistry, _Only(metric)))


class _Only:
    """As much of a registry as is needed to write one metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self._metric]
