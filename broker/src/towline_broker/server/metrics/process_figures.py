"""What one broker process counts, as rows."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from towline_broker.core.observing import Observing, Reading
from towline_broker.core.statistics import Histogram, QueueHistograms
from towline_broker.domain.time import Micros, from_seconds, to_seconds
from towline_broker.interceptors.measuring import BOUNDS, MeasuredCalls, short_name
from towline_broker.interceptors.refusals import Refused
from towline_broker.server.metrics import families
from towline_broker.server.metrics.families import Distribution, Row, Rows
from towline_broker.server.metrics.naming import Names

#: Queues that are looked at before others have a turn of the event loop.
PIECE = 200
#: Seconds that jobs wait or run.
JOB_BOUNDS = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1_800.0, 3_600.0)
_JOB_BOUNDS: tuple[Micros, ...] = tuple(map(from_seconds, JOB_BOUNDS))


def of_stores(
    observing: Observing,
    readings: Mapping[str, Reading | None],
    free: Mapping[str, int],
) -> Iterator[Rows]:
    """``free``: bytes on the disk of a store."""
    loads = observing.loads()
    yield (
        families.STORE_INFO,
        [
            Row((load.name, load.capabilities.name, load.capabilities.durability.name.lower()), 1)
            for load in loads
        ],
    )
    yield families.STORE_UP, [Row((name,), int(one is not None)) for name, one in readings.items()]
    yield (
        families.FIGURES_AGE,
        [
            Row((load.name,), to_seconds(max(0, load.now - reading.taken)))
            for load in loads
            if (reading := readings[load.name]) is not None
        ],
    )
    yield families.DISK_FREE, [Row((name,), value) for name, value in free.items()]
    yield families.UPKEEP_LAG, [Row((load.name,), to_seconds(load.upkeep_lag)) for load in loads]
    yield (
        families.UPKEEP_AGE,
        [
            Row((load.name,), to_seconds(load.upkeep_age))
            for load in loads
            if load.upkeep_age is not None
        ],
    )
    yield families.PUSHES_WAITING, [Row((load.name,), load.pushes_waiting) for load in loads]
    yield families.PUSH_WINDOW, [Row((load.name,), load.push_window) for load in loads]
    yield families.PARKED, [Row((), observing.parked)]
    yield families.PARKED_LIMIT, [Row((), observing.most_parked)]


def of_certificates(ends: Mapping[str, float]) -> Rows:
    """``ends``: seconds since the Unix epoch, by the place where the certificate is used."""
    return families.CERTIFICATE_EXPIRES, [Row((name,), end) for name, end in ends.items()]


def of_calls(calls: MeasuredCalls) -> Iterator[Rows]:
    methods = sorted(calls.methods.items())
    yield (
        families.RPCS,
        [
            Row((method, code), count)
            for method, figures in methods
            for code, count in sorted(figures.codes.items())
        ],
    )
    yield families.RPCS_RUNNING, [Row((method,), figures.running) for method, figures in methods]
    yield (
        families.RPC_SECONDS,
        [
            Row(
                (method,),
                Distribution(
                    BOUNDS,
                    tuple(figures.up_to_bounds()),
                    sum(figures.codes.values()),
                    figures.seconds,
                ),
            )
            for method, figures in methods
        ],
    )
    yield (
        families.STREAM_ANSWERS,
        [
            Row((method, code), count)
            for method, figures in methods
            for code, count in sorted(figures.answers.items())
        ],
    )
    reasons = sorted(calls.reasons.items())
    yield families.FAILURES, [Row((reason,), count) for reason, count in reasons]


def of_rights(refusals: Mapping[Refused, int]) -> Iterator[Rows]:
    """Whoever they were: names of callers are for the log."""
    counts: Counter[tuple[str, str]] = Counter()
    for refused, count in refusals.items():
        counts[short_name(refused.method), refused.code] += count
    yield families.RIGHTS, [Row(labels, count) for labels, count in sorted(counts.items())]


async def of_jobs(observing: Observing, queues: Names) -> list[Rows]:
    wait, processing = observing.timings.by_queue()
    queues.meet([*wait, *processing])
    return [
        (families.WAIT, await _distributions(wait, queues)),
        (families.PROCESSING, await _distributions(processing, queues)),
    ]


async def _distributions(histograms: QueueHistograms, queues: Names) -> Iterator[Row]:
    """Those of queues that are named are added up when they are asked for."""
    named = {queue: of_types for queue, of_types in histograms.items() if queues.names(queue)}
    others, together = Histogram(), False
    for number, (queue, of_types) in enumerate(histograms.items()):
        if queue not in named:
            together = True
            for histogram in of_types:
                others.merge(histogram)
        if number % PIECE == 0:
            await asyncio.sleep(0)
    rows = (Row((queue,), _merged(of_types)) for queue, of_types in named.items())
    return chain(rows, [Row((families.OTHERS,), _merged([others]))] if together else [])


def _merged(histograms: Iterable[Histogram]) -> Distribution:
    merged = Histogram()
    for histogram in histograms:
        merged.merge(histogram)
    return Distribution(
        JOB_BOUNDS, tuple(merged.up_to(_JOB_BOUNDS)), merged.count, to_seconds(merged.total)
    )


def free_on_disks(folders: Mapping[str, Path], free_bytes: Callable[[Path], int]) -> dict[str, int]:
    """Of those whose disk answers."""
    found: dict[str, int] = {}
    for name, folder in folders.items():
        try:
            found[name] = free_bytes(folder)
        except OSError:
            continue
    return found
