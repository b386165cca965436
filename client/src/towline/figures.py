"""The figures of a broker: jobs by state, and what has become of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from towline.v1 import admin_service_pb2 as pb

__all__ = ["Figures", "Stats", "Timing", "read_stats"]


@dataclass(frozen=True)
class Timing:
    """A distribution of times, of so many; None for each when there were none."""

    count: int = 0
    mean: timedelta | None = None
    p50: timedelta | None = None
    p95: timedelta | None = None
    p99: timedelta | None = None


@dataclass(frozen=True)
class Figures:
    """Of a queue, a type or all of them.

    scheduled, ready, leased, dead   jobs that there are now, by their state
    oldest_ready_age                 how long the READY job has waited that waits longest
    paused                           whether the queue gives out no jobs
    pushed ... requeued              counts since the store was made or ``ResetStats``
    success_rate, failure_rate       of all attempts that ended; None before the first
    processing, wait                 from lease to end, and from READY to lease
    """

    scheduled: int = 0
    ready: int = 0
    leased: int = 0
    dead: int = 0
    oldest_ready_age: timedelta | None = None
    paused: bool = False
    pushed: int = 0
    started: int = 0
    completed: int = 0
    failed: int = 0
    retried: int = 0
    released: int = 0
    dead_lettered: int = 0
    lease_expired: int = 0
    cancelled: int = 0
    requeued: int = 0
    success_rate: float | None = None
    failure_rate: float | None = None
    processing: Timing = field(default=Timing(), repr=False)
    wait: Timing = field(default=Timing(), repr=False)

    @property
    def pending(self) -> int:
        """Jobs that wait: READY or SCHEDULED."""
        return self.ready + self.scheduled

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits or runs. Dead jobs do not count."""
        return self.pending + self.leased == 0


@dataclass(frozen=True)
class Stats:
    """What AdminService.Stats tells. ``driver`` and ``durability`` are those of the default store,
    ``workers`` those that were heard of within the last minute."""

    total: Figures
    queues: Mapping[str, Figures]
    types: Mapping[str, Figures]
    version: str
    driver: str
    durability: str
    workers: int
    uptime: timedelta


def read_stats(answer: pb.StatsResponse) -> Stats:
    """Return what a broker tells of itself."""
    broker = answer.broker
    return Stats(
        total=_figures(answer.total),
        queues={each.queue: _figures(each.figures, each.paused) for each in answer.queues},
        types={each.type: _figures(each.figures) for each in answer.types},
        version=broker.version,
        driver=broker.driver,
        durability=_durability(broker.durability),
        workers=broker.workers,
        uptime=broker.uptime.ToTimedelta(),
    )


def _figures(message: pb.Figures, paused: bool = False) -> Figures:
    depth, totals = message.depth, message.totals
    counts = {each.name: getattr(totals, each.name) for each in totals.DESCRIPTOR.fields}
    return Figures(
        scheduled=depth.scheduled,
        ready=depth.ready,
        leased=depth.leased,
        dead=depth.dead,
        oldest_ready_age=_duration(message, "oldest_ready_age"),
        paused=paused,
        success_rate=message.success_rate if message.HasField("success_rate") else None,
        failure_rate=message.failure_rate if message.HasField("failure_rate") else None,
        processing=_timing(message.processing),
        wait=_timing(message.wait),
        **{name: count for name, count in counts.items() if name in _COUNTS},
    )


_COUNTS = frozenset(Figures.__dataclass_fields__)
"""A newer broker may count what this SDK has no name for."""


def _timing(message: pb.Timing) -> Timing:
    parts = ("mean", "p50", "p95", "p99")
    return Timing(message.count, *(_duration(message, name) for name in parts))


def _duration(message: Any, name: str) -> timedelta | None:
    found: timedelta = getattr(message, name).ToTimedelta()
    return found if message.HasField(name) else None


def _durability(number: pb.Durability.ValueType) -> str:
    known = pb.Durability.DESCRIPTOR.values_by_number.get(number)
    return "UNKNOWN" if known is None else str(known.name).removeprefix("DURABILITY_")
