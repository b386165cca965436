"""Whole queues: list, pause, resume, purge and drain them."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from towline.cli import bulk, output, values
from towline.cli.connection import Broker, connect
from towline.cli.exits import Exit, Failed
from towline.cli.figure_views import depth_json, queue_json
from towline.cli.formats import count, many, span
from towline.cli.options import (
    DEFAULT_TIMEOUT,
    DryRun,
    JsonDocument,
    JsonLines,
    Queue,
    Timeout,
    Url,
    Yes,
    examples,
)
from towline.cli.output import Column, number
from towline.v1 import admin_service_pb2 as pb

_POLL = 0.5

_COLUMNS = (
    Column("QUEUE"),
    number("READY"),
    number("SCHEDULED"),
    number("LEASED"),
    number("DEAD"),
    Column("STATE"),
)
#: Shown where the broker has more than one store.
_STORE = Column("STORE")


def list_queues(
    json: JsonLines = False, url: Url = None, timeout: Timeout = DEFAULT_TIMEOUT
) -> None:
    """List the queues, and how many jobs each holds."""
    with connect(url, timeout) as broker:
        queues = broker.call(broker.admin.ListQueues, pb.ListQueuesRequest()).queues
        stores = _stores(broker, queues[0].name) if queues and not json else 0
    if json:
        for queue in queues:
            output.line(queue_json(queue))
    elif stores > 1:
        output.table((*_COLUMNS, _STORE), [[*_row(queue), queue.store] for queue in queues])
    elif queues:
        output.table(_COLUMNS, [_row(queue) for queue in queues])
    else:
        output.note("no queues yet: a queue comes into being with its first job")


def _stores(broker: Broker, queue: str) -> int:
    """Return how many stores the broker has. Figures of any one queue cost the least."""
    answer = broker.call(broker.admin.Stats, pb.StatsRequest(queues=[queue]))
    return len(answer.broker.stores)


def _row(queue: pb.QueueInfo) -> list[str]:
    depth = queue.depth
    return [
        queue.name,
        count(depth.ready),
        count(depth.scheduled),
        count(depth.leased),
        count(depth.dead),
        _state(queue),
    ]


def _state(queue: pb.QueueInfo) -> str:
    states = ["paused"] if queue.paused else []
    if queue.moving_to:
        states.append(f"moving to {queue.moving_to}")
    return ", ".join(states) or "open"


def pause(
    queue: Queue,
    json: JsonDocument = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Pause a queue: workers get nothing from it.

    It still takes jobs, and what runs goes on. The pause outlives a restart of the broker.
    """
    with connect(url, timeout) as broker:
        changed = broker.call(broker.admin.PauseQueue, pb.PauseQueueRequest(queue=queue)).changed
    if json:
        output.document({"queue": queue, "paused": True, "changed": changed})
    else:
        output.say(f"{queue} is paused" if changed else f"{queue} was paused already")


def resume(
    queue: Queue,
    json: JsonDocument = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """End the pause of a queue."""
    with connect(url, timeout) as broker:
        changed = broker.call(broker.admin.ResumeQueue, pb.ResumeQueueRequest(queue=queue)).changed
    if json:
        output.document({"queue": queue, "paused": False, "changed": changed})
    else:
        output.say(f"{queue} is open again" if changed else f"{queue} was not paused")


def purge(
    queue: Queue,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: JsonDocument = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Remove all waiting jobs of a queue for good.

    The delayed ones too. Jobs that run now go on; dead ones stay, see "towline dead discard".
    """
    with connect(url, timeout) as broker:

        def call(limit: int, dry_run: bool = False) -> bulk.Step:
            request = pb.PurgeQueueRequest(queue=queue, limit=limit, dry_run=dry_run)
            answer = broker.call(broker.admin.PurgeQueue, request)
            return bulk.Step(answer.matched, answer.purged)

        matched = call(bulk.BATCH, dry_run=True).matched
        purged = 0
        if matched and not dry_run:
            question = f"Remove {many(matched, 'waiting job')} from {queue} for good?"
            output.confirm(question, yes=yes)
            purged = bulk.repeat(f"purge {queue}", matched, call)
    if json:
        output.document({"queue": queue, "matched": matched, "purged": purged, "dry_run": dry_run})
    elif dry_run:
        output.say(f"{many(matched, 'waiting job')} would be removed from {queue}")
    else:
        output.say(f"{many(purged, 'waiting job')} removed from {queue}")


def drain(
    queue: Queue,
    ready_only: Annotated[
        bool,
        typer.Option("--ready-only", help="Do not wait for jobs that are not due yet."),
    ] = False,
    wait_timeout: Annotated[
        str | None,
        typer.Option(
            "--wait-timeout", metavar="DURATION", help="Wait at most so long; then exit with 4."
        ),
    ] = None,
    json: JsonDocument = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Wait until a queue is empty, however long that takes.

    Until nothing waits, nothing is scheduled and nothing runs, that is. Dead jobs do not count.
    --wait-timeout gives up after a time.
    """
    limit = values.optional_seconds(wait_timeout, "--wait-timeout")
    begin = time.monotonic()
    with connect(url, timeout) as broker:
        figures = _look(broker, queue)
        if figures.paused and figures.figures.depth.ready:
            output.note(
                f"{queue} is paused: its jobs wait until: towline resume {queue}; or, where the "
                "settings of the broker pause it, until they do not"
            )
        left = most = _left(figures.figures.depth, ready_only)
        with output.progress(f"drain {queue}", most) as show:
            while left and (limit is None or time.monotonic() - begin < limit):
                time.sleep(_POLL)
                figures = _look(broker, queue)
                left = _left(figures.figures.depth, ready_only)
                most = max(most, left)
                show(most - left, most)
    took = time.monotonic() - begin
    if json:
        depth = depth_json(figures.figures.depth)
        output.document({"queue": queue, "empty": not left, "depth": depth, "seconds": took})
    elif not left:
        output.say(f"{queue} is empty after {span(took)}")
    if left:
        raise Failed(f"{queue} still has {many(left, 'job')} after {span(took)}", Exit.TIMEOUT)


def _look(broker: Broker, queue: str) -> pb.QueueFigures:
    return broker.call(broker.admin.Stats, pb.StatsRequest(queues=[queue])).queues[0]


def _left(depth: pb.Depth, ready_only: bool) -> int:
    return depth.ready + depth.leased + (0 if ready_only else depth.scheduled)


def register(app: typer.Typer) -> None:
    app.command("queues", epilog=examples("towline queues", "towline queues --json | jq .depth"))(
        list_queues
    )
    app.command("pause", epilog=examples("towline pause emails"))(pause)
    app.command("resume", epilog=examples("towline resume emails"))(resume)
    app.command(
        "purge",
        epilog=examples(
            "towline purge emails --dry-run", "towline purge emails", "towline purge emails --yes"
        ),
    )(purge)
    app.command(
        "drain",
        epilog=examples(
            "towline drain emails", "towline drain emails --ready-only --wait-timeout 10m"
        ),
    )(drain)
