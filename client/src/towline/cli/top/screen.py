"""How a snapshot is drawn: as much of it as the terminal has room for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from towline.cli.figure_views import directive_name
from towline.cli.formats import at, count, length, local, share, span
from towline.cli.job_views import failure_text, reason_name
from towline.cli.output import clean
from towline.cli.top.snapshot import Rates, Snapshot, rates
from towline.v1 import admin_service_pb2 as pb

SORT_KEYS: Mapping[str, Callable[[pb.QueueFigures], object]] = {
    "name": lambda each: each.queue,
    "ready": lambda each: (-each.figures.depth.ready, each.queue),
    "leased": lambda each: (-each.figures.depth.leased, each.queue),
    "dead": lambda each: (-each.figures.depth.dead, each.queue),
    "failed": lambda each: (-each.figures.totals.failed, each.queue),
    "wait": lambda each: (-(length(each.figures, "oldest_ready_age") or 0.0), each.queue),
}

_DIRECTIVES = {"QUIET": "be quiet", "STOP": "stop"}


def draw(
    snapshot: Snapshot, before: Snapshot | None, sort: str, rows: int | None, trouble: str = ""
) -> RenderableType:
    """Return the frame.

    ``before`` is the snapshot that rates are counted from. ``rows`` is the height of the terminal;
    None: as high as it needs to be. ``trouble`` says why the snapshot is old.
    """
    room = _Room(rows)
    parts: list[RenderableType] = [_head(snapshot, before, trouble)]
    room.take(_HEAD_LINES)
    queues = sorted(snapshot.stats.queues, key=SORT_KEYS[sort])  # type: ignore[arg-type]
    # Below the queues some room stays for who works and what died.
    below = min(len(snapshot.workers), 4) + min(len(snapshot.dead), 4) + 4
    shown = room.share(len(queues), keep=below)
    parts += [Text(), _queues(snapshot, before, queues[:shown], len(queues) - shown)]
    shown = room.share(len(snapshot.workers), keep=min(len(snapshot.dead), 4) + 2)
    parts += [Text(), _workers(snapshot.workers[:shown], len(snapshot.workers) - shown)]
    shown = room.share(len(snapshot.dead), keep=0)
    parts += [Text(), _dead(snapshot, shown)]
    return Group(*parts)


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


def _queues(
    snapshot: Snapshot, before: Snapshot | None, queues: Sequence[pb.QueueFigures], hidden: int
) -> RenderableType:
    headings = "READY SCHEDULED RUNNING DEAD PUSHED/S DONE/S FAILED/S P95 OLDEST"
    table = _table("QUEUE", *headings.split())
    for each in queues:
        figures = each.figures
        speed = _rates(snapshot, before, each.queue, figures)
        name = Text(clean(each.queue) + (" (paused)" if each.paused else ""))
        name.stylize("yellow" if each.paused else "")
        table.add_row(
            name,
            count(figures.depth.ready),
            count(figures.depth.scheduled),
            count(figures.depth.leased),
            Text(count(figures.depth.dead), style="red" if figures.depth.dead else ""),
            _per_second(speed.pushed),
            _per_second(speed.completed),
            _per_second(speed.failed),
            span(length(figures.processing, "p95")),
            span(length(figures, "oldest_ready_age")),
        )
    return _with_rest(table, hidden, "no queues yet" if not queues else "")


def _workers(workers: Sequence[pb.WorkerInfo], hidden: int) -> RenderableType:
    table = _table("WORKER", "RUNNING", left=("QUEUES", "TOLD TO", "LAST SEEN"))
    for each in workers:
        table.add_row(
            clean(each.worker_id),
            count(each.leases),
            clean(",".join(each.queues)),
            _DIRECTIVES.get(directive_name(each.directive), ""),
            local(at(each, "last_seen")),
        )
    empty = "" if workers else "no workers; start one with: towline worker MODULE"
    return _with_rest(table, hidden, empty)


def _dead(snapshot: Snapshot, shown: int) -> RenderableType:
    table = _table("DIED", left=("QUEUE", "TYPE", "REASON", "LAST FAILURE"))
    for info in snapshot.dead[:shown]:
        table.add_row(
            local(at(info, "finished_at")),
            clean(info.job.queue),
            clean(info.job.type),
            Text(reason_name(info.dead_reason), style="red"),
            clean(failure_text(info)),
        )
    empty = "" if snapshot.dead else "no job died lately"
    return _with_rest(table, len(snapshot.dead) - shown, empty)


def _table(first: str, *numbers: str, left: Sequence[str] = ()) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True, overflow="ellipsis")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in left:
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    return table


def _with_rest(table: Table, hidden: int, empty: str) -> RenderableType:
    if empty:
        return Text(empty, style="dim")
    if hidden > 0 and table.columns:
        table.columns[0].header = f"{table.columns[0].header} (+{hidden:,})"
    return table


def _rates(
    snapshot: Snapshot, before: Snapshot | None, queue: str | None, figures: pb.Figures
) -> Rates:
    """Of a queue, or of all that is shown (None)."""
    if before is None:
        return Rates()
    earlier = before.stats.total if queue is None else before.queue(queue)
    return rates(earlier, figures, snapshot.taken_at - before.taken_at)


def _per_second(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"
