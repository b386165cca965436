"""What a broker says of itself at one moment, and how fast things went since the moment before."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from google.protobuf.timestamp_pb2 import Timestamp

from towline.cli.connection import Broker
from towline.cli.formats import at
from towline.v1 import admin_service_pb2 as pb
from towline.v1 import dead_letter_service_pb2 as dead_pb
from towline.v1 import job_pb2

DEAD_WINDOW = timedelta(minutes=10)
"""How far back dead jobs are looked for at the start."""

DEAD_KEPT = 100
"""Dead jobs that are remembered: more never fit on a screen."""

DEAD_PAGES = 5
"""Pages of dead jobs that are read for one snapshot. If more died, the next one goes on there."""


@dataclass(frozen=True)
class Snapshot:
    stats: pb.StatsResponse
    workers: Sequence[pb.WorkerInfo]
    dead: Sequence[job_pb2.JobInfo]
    """The latest, the newest first."""

    @property
    def taken_at(self) -> float:
        """Seconds on the clock of the store."""
        moment = at(self.stats.broker, "store_time")
        return 0.0 if moment is None else moment.timestamp()

    @cached_property
    def queues(self) -> dict[str, pb.Figures]:
        """The figures of each queue, by its name."""
        return {each.queue: each.figures for each in self.stats.queues}


class Observer:
    """Takes snapshots of one broker. ``queues`` empty stands for all of them."""

    def __init__(self, broker: Broker, queues: Sequence[str]) -> None:
        self._broker = broker
        self._queues = queues
        self._dead: deque[job_pb2.JobInfo] = deque(maxlen=DEAD_KEPT)
        self._dead_since: Timestamp | None = None

    def take(self) -> Snapshot:
        """Ask the broker. Raises the exceptions of towline.errors."""
        broker = self._broker
        stats = broker.call(broker.admin.Stats, pb.StatsRequest(queues=self._queues))
        workers = broker.call(broker.admin.ListWorkers, pb.ListWorkersRequest()).workers
        wanted = set(self._queues)
        self._read_dead(stats.broker.store_time)
        return Snapshot(
            stats,
            [each for each in workers if not wanted or wanted & set(each.queues)],
            [each for each in reversed(self._dead) if not wanted or each.job.queue in wanted],
        )

    def _read_dead(self, now: Timestamp) -> None:
        """Dead jobs are listed in the order of their death, so only the new ones are asked for."""
        if self._dead_since is None:
            self._dead_since = Timestamp()
            self._dead_since.FromDatetime(now.ToDatetime() - DEAD_WINDOW)
        known = {each.job.id for each in self._dead}
        token = ""
        for _ in range(DEAD_PAGES):
            request = dead_pb.ListDeadRequest(
                filter=dead_pb.DeadFilter(dead_after=self._dead_since),
                page_size=1000,
                page_token=token,
            )
            answer = self._broker.call(self._broker.dead.ListDead, request)
            self._dead.extend(each for each in answer.jobs if each.job.id not in known)
            token = answer.next_page_token
            if not token:
                break
        if self._dead:
            self._dead_since = self._dead[-1].finished_at


@dataclass(frozen=True)
class Rates:
    """A second, between two snapshots; None where that cannot be told."""

    pushed: float | None = None
    completed: float | None = None
    failed: float | None = None


def rates(before: pb.Figures | None, now: pb.Figures, seconds: float) -> Rates:
    """``seconds`` lie between the two. Totals that were set back in between tell no rate."""
    if before is None or seconds <= 0:
        return Rates()

    def rate(name: str) -> float | None:
        change: int = getattr(now.totals, name) - getattr(before.totals, name)
        return None if change < 0 else change / seconds

    return Rates(rate("pushed"), rate("completed"), rate("failed"))
