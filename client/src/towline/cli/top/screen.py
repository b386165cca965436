"""How a snapshot is drawn: as much of it as the terminal has room for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from towline.cli.figure_views import directive_name
from towline.cli.formats import at, count, length, local, share, span
from towline.cli.job_views import failure_text, reason_name
from towline.cli.output import Column, clean, drawn_table, number
from towline.cli.top.snapshot import Rates, Snapshot, rates
from towline.v1 import admin_service_pb2 as pb
from towline.v1 import job_pb2

SORT_KEYS: Mapping[str, Callable[[pb.QueueFigures], Any]] = {
    "name": lambda each: each.queue,
    "ready": lambda each: (-each.figures.depth.ready, each.queue),
    "leased": lambda each: (-each.figures.depth.leased, each.queue),
    "dead": lambda each: (-each.figures.depth.dead, each.queue),
    "failed": lambda each: (-each.figures.totals.failed, each.queue),
    "wait": lambda each: (-(length(each.figures, "oldest_ready_age") or 0.0), each.queue),
}

_DIRECTIVES = {"QUIET": "be quiet", "STOP": "stop"}


def draw(
    snapshot: Snapshot,
    before: Snapshot | None,
    sort: str,
    size: tuple[int, int] | None,
    trouble: str = "",
) -> RenderableType:
    """Return the frame.

    ``before`` is the snapshot that rates are counted from. ``size`` is that of the terminal, its
    columns and lines; None: as large as it needs to be. ``trouble`` says why the snapshot is old.
    """
    width, height = size or (None, None)
    room = _Room(height)
    room.take(_HEAD_LINES)
    queues = sorted(snapshot.stats.queues, key=SORT_KEYS[sort])
    workers, dead = snapshot.workers, snapshot.dead
    # Below the queues some room stays for who works and what died.
    few_dead = min(len(dead), 4)
    of_queues = room.share(len(queues), keep=min(len(workers), 4) + few_dead + 4)
    of_workers = room.share(len(workers), keep=few_dead + 2)
    of_dead = room.share(len(dead), keep=0)
    tables = (
        (_QUEUES, _queues(snapshot, before, queues[:of_queues]), len(queues), "no queues yet"),
        (_WORKERS, [_worker(each) for each in workers[:of_workers]], len(workers), _NO_WORKERS),
        (_DEAD, [_dead(info) for info in dead[:of_dead]], len(dead), "no job died lately"),
    )
    parts = [_head(snapshot, before, trouble)]
    for columns, rows, total, empty in tables:
        parts += [Text(), _table(columns, rows, total - len(rows), width, empty)]
    return Group(*parts)


_NO_WORKERS = "no workers; start one with: towline worker MODULE"
_HEAD_LINES = 4


class _Room:
    """The lines of the terminal that are left."""

    def __init__(self, rows: int | None) -> None:
        self._left = rows

    def take(self, lines: int) -> None:
        if self._left is not None:
            self._left -= lines

    def share(self, wanted: int, *, keep: int) -> int:
        """Return how many rows a table may have, besides a gap and its heading, at least one."""
        if self._left is None:
            return wanted
        shown = max(1, min(wanted, self._left - keep - 2))
        self.take(shown + 2)
        return shown


def _head(snapshot: Snapshot, before: Snapshot | None, trouble: str) -> RenderableType:
    broker, total = snapshot.stats.broker, snapshot.stats.total
    speed = _rates(snapshot, before, None, total)
    stores = ", ".join(store.driver for store in broker.stores) or broker.driver
    first = Text.assemble(
        ("towline-broker ", "dim"),
        clean(broker.version),
        (" over ", "dim"),
        clean(stores),
        (", up ", "dim"),
        span(length(broker, "uptime")),
        (", at ", "dim"),
        local(at(broker, "store_time")),
    )
    if trouble:
        first = Text(clean(trouble), style="bold red")
    depth = total.depth
    second = Text.assemble(
        *_pair("ready", count(depth.ready)),
        *_pair("scheduled", count(depth.scheduled)),
        *_pair("running", count(depth.leased)),
        *_pair("dead", count(depth.dead), "red" if depth.dead else ""),
        *_pair("workers", count(broker.workers)),
    )
    third = Text.assemble(
        *_pair("pushed", _per_second(speed.pushed)),
        *_pair("completed", _per_second(speed.completed)),
        *_pair("failed", _per_second(speed.failed)),
        *_pair("success", share(total.success_rate if total.HasField("success_rate") else None)),
        *_pair("p95", span(length(total.processing, "p95"))),
        *_pair("oldest ready", span(length(total, "oldest_ready_age"))),
    )
    return Group(first, second, third)


def _pair(name: str, value: str, style: str = "bold") -> tuple[tuple[str, str], tuple[str, str]]:
    return (f"{name} ", "dim"), (f"{value}   ", style)


_QUEUES = (
    Column("QUEUE", shrinks=True),
    *map(number, ("READY", "SCHEDULED", "RUNNING", "DEAD", "PUSHED/S", "DONE/S", "FAILED/S")),
    *map(number, ("P95", "OLDEST")),
)
_WORKERS = (
    Column("WORKER"),
    number("RUNNING"),
    Column("QUEUES", shrinks=True),
    Column("TOLD TO"),
    Column("LAST SEEN"),
)
_DEAD = (
    Column("DIED"),
    Column("QUEUE", shrinks=True),
    Column("TYPE", shrinks=True),
    Column("REASON", style="red"),
    Column("LAST FAILURE", shrinks=True),
)


def _queues(
    snapshot: Snapshot, before: Snapshot | None, queues: Sequence[pb.QueueFigures]
) -> list[list[str]]:
    rows = []
    for each in queues:
        figures = each.figures
        speed = _rates(snapshot, before, each.queue, figures)
        rows.append(
            [
                clean(each.queue) + (" (paused)" if each.paused else ""),
                count(figures.depth.ready),
                count(figures.depth.scheduled),
                count(figures.depth.leased),
                count(figures.depth.dead),
                _per_second(speed.pushed),
                _per_second(speed.completed),
                _per_second(speed.failed),
                span(length(figures.processing, "p95")),
                span(length(figures, "oldest_ready_age")),
            ]
        )
    return rows


def _worker(each: pb.WorkerInfo) -> list[str]:
    return [
        clean(each.worker_id),
        count(each.leases),
        clean(",".join(each.queues)),
        _DIRECTIVES.get(directive_name(each.directive), ""),
        local(at(each, "last_seen")),
    ]


def _dead(info: job_pb2.JobInfo) -> list[str]:
    return [
        local(at(info, "finished_at")),
        clean(info.job.queue),
        clean(info.job.type),
        reason_name(info.dead_reason),
        clean(failure_text(info)),
    ]


def _table(
    columns: Sequence[Column], rows: Sequence[list[str]], hidden: int, width: int | None, empty: str
) -> RenderableType:
    if not rows:
        return Text(empty, style="dim")
    if hidden > 0:
        columns = (replace(columns[0], header=f"{columns[0].header} (+{hidden:,})"), *columns[1:])
    return drawn_table(columns, rows, width)


def _rates(
    snapshot: Snapshot, before: Snapshot | None, queue: str | None, figures: pb.Figures
) -> Rates:
    """Of a queue, or of all that is shown (None)."""
    if before is None:
        return Rates()
    earlier = before.stats.total if queue is None else before.queues.get(queue)
    return rates(earlier, figures, snapshot.taken_at - before.taken_at)


def _per_second(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"
