"""The figures of jobs that ran at once, in the terms of a broker's statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version

from towline.errors import NotFound
from towline.v1 import admin_service_pb2 as pb
from towline.v1.job_pb2 import Job, JobInfo, JobState

_DEPTHS = {
    JobState.JOB_STATE_SCHEDULED: "scheduled",
    JobState.JOB_STATE_READY: "ready",
    JobState.JOB_STATE_LEASED: "leased",
    JobState.JOB_STATE_DEAD: "dead",
}

Kind = tuple[str, str]
"""Queue and type of a job."""


class Totals:
    """What has happened since the beginning, by queue and type. For one thread at a time."""

    def __init__(self) -> None:
        self._counts: dict[Kind, Counter[str]] = {}

    def count(self, job: Job, *events: str) -> None:
        """``events`` are names of fields of pb.Totals."""
        self._counts.setdefault((job.queue, job.type), Counter()).update(events)

    def report(self, infos: Iterable[JobInfo], queues: Sequence[str]) -> pb.StatsResponse:
        """Return the figures of these queues, or of all. Raises NotFound for one without jobs."""
        depths: dict[Kind, Counter[str]] = {}
        for info in infos:
            kind = info.job.queue, info.job.type
            depths.setdefault(kind, Counter()).update([_DEPTHS.get(info.state, "")])
        known = {queue for queue, _ in self._counts}
        for queue in queues:
            if queue not in known:
                raise NotFound(
                    f"no queue {queue!r} exists", code="NOT_FOUND", reason="QUEUE_NOT_FOUND"
                )

        chosen = set(queues) or known
        kinds = [kind for kind in self._counts if kind[0] in chosen]

        def figures(of: Iterable[Kind]) -> pb.Figures:
            each = list(of)
            return _figures(
                sum((depths.get(kind, Counter()) for kind in each), Counter()),
                sum((self._counts[kind] for kind in each), Counter()),
            )

        return pb.StatsResponse(
            total=figures(kinds),
            queues=[
                pb.QueueFigures(
                    queue=queue, figures=figures(kind for kind in kinds if kind[0] == queue)
                )
                for queue in sorted(chosen)
            ],
            types=[
                pb.TypeFigures(
                    type=name, figures=figures(kind for kind in kinds if kind[1] == name)
                )
                for name in sorted({name for _, name in kinds})
            ],
            broker=pb.BrokerInfo(
                version=version("towline"),
                driver="sync",
                durability=pb.DURABILITY_NONE,
                durability_note="Jobs run where they are dispatched, and are kept in memory.",
            ),
        )


def _figures(depth: Counter[str], totals: Counter[str]) -> pb.Figures:
    figures = pb.Figures(
        depth=pb.Depth(**{name: depth[name] for name in _DEPTHS.values()}),
        totals=pb.Totals(**totals),
    )
    ended = totals["completed"] + totals["failed"]
    if ended:
        figures.success_rate = totals["completed"] / ended
        figures.failure_rate = totals["failed"] / ended
    return figures
