"""`towline check`: is all well? For cron, a monitor, or a deployment that waits for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from towline.cli import output, values
from towline.cli.connection import Broker, connect
from towline.cli.exits import Exit
from towline.cli.formats import count, length, share, span
from towline.cli.options import DEFAULT_TIMEOUT, JsonDocument, Timeout, Url, examples
from towline.cli.output import Column
from towline.v1 import admin_service_pb2 as pb
from towline.v1 import job_pb2
from towline.v1 import queue_service_pb2 as queue_pb


@dataclass(frozen=True)
class Limits:
    """What still counts as well; None is not looked at. Ages are in seconds."""

    max_ready: int | None = None
    max_age: float | None = None
    max_dead: int | None = None
    max_running: float | None = None
    min_success: float | None = None
    min_workers: int | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())


@dataclass(frozen=True)
class Problem:
    """``queue`` is empty for what concerns all of them."""

    queue: str
    check: str
    found: str
    limit: str


def check(
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", "-q", metavar="QUEUE", help="Only this queue. Can be repeated."),
    ] = None,
    max_ready: Annotated[
        int | None,
        typer.Option("--max-ready", metavar="N", min=0, help="Jobs that may wait in a queue."),
    ] = None,
    max_age: Annotated[
        str | None,
        typer.Option("--max-age", metavar="DURATION", help="How long the oldest may have waited."),
    ] = None,
    max_running: Annotated[
        str | None,
        typer.Option(
            "--max-running", metavar="DURATION", help="How long an attempt may take: else stuck."
        ),
    ] = None,
    max_dead: Annotated[
        int | None,
        typer.Option("--max-dead", metavar="N", min=0, help="Dead jobs that a queue may hold."),
    ] = None,
    min_success: Annotated[
        float | None,
        typer.Option(
            "--min-success",
            metavar="SHARE",
            min=0,
            max=1,
            help="Least share of attempts that succeed, such as 0.95; since `stats --reset`.",
        ),
    ] = None,
    min_workers: Annotated[
        int | None,
        typer.Option("--min-workers", metavar="N", min=0, help="Workers heard of in a minute."),
    ] = None,
    json: JsonDocument = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Compare queues with limits; exit with 1, and say which, where one is passed.

    A paused queue that jobs wait in is told as well. Without any limit: is a broker there, and does
    it answer?
    """
    limits = Limits(
        max_ready=max_ready,
        max_age=values.optional_seconds(max_age, "--max-age"),
        max_dead=max_dead,
        max_running=values.optional_seconds(max_running, "--max-running"),
        min_success=min_success,
        min_workers=min_workers,
    )
    with connect(url, timeout) as broker:
        answer = broker.call(broker.admin.Stats, pb.StatsRequest(queues=queue or ()))
        problems = list(_broker_problems(answer, limits))
        for each in answer.queues:
            problems += _queue_problems(each, limits)
            if limits.max_running is not None and each.figures.depth.leased:
                now = answer.broker.store_time.ToNanoseconds()
                problems += _stuck(
                    _running(broker, each.queue, now), each.queue, limits.max_running
                )
    if json:
        output.document({"ok": not problems, "problems": [asdict(each) for each in problems]})
    elif problems:
        columns = (Column("QUEUE"), Column("CHECK"), Column("FOUND"), Column("LIMIT"))
        rows = [[each.queue or "-", each.check, each.found, each.limit] for each in problems]
        output.table(columns, rows)
    else:
        output.say("all is well")
    raise typer.Exit(Exit.FAILED if problems else Exit.OK)


def _broker_problems(answer: pb.StatsResponse, limits: Limits) -> Iterator[Problem]:
    workers, least = answer.broker.workers, limits.min_workers
    if least is not None and workers < least:
        yield Problem("", "workers", count(workers), f"at least {least}")


def _queue_problems(each: pb.QueueFigures, limits: Limits) -> Iterator[Problem]:
    figures, queue = each.figures, each.queue
    depth, most = figures.depth, limits.max_ready
    if most is not None and depth.ready > most:
        yield Problem(queue, "ready", count(depth.ready), f"at most {most:,}")
    age = length(figures, "oldest_ready_age") or 0.0
    if limits.max_age is not None and age > limits.max_age:
        yield Problem(queue, "age of the oldest", span(age), f"at most {span(limits.max_age)}")
    if limits.max_dead is not None and depth.dead > limits.max_dead:
        yield Problem(queue, "dead", count(depth.dead), f"at most {limits.max_dead:,}")
    if (
        limits.min_success is not None
        and figures.HasField("success_rate")
        and figures.success_rate < limits.min_success
    ):
        found, least = share(figures.success_rate), share(limits.min_success)
        yield Problem(queue, "success", found, f"at least {least}")
    if limits and each.paused and depth.ready:
        yield Problem(queue, "paused", f"{depth.ready:,} ready", "resume it")


def _running(broker: Broker, queue: str, now: int) -> Iterator[float]:
    """How long each attempt of the queue has run, in seconds; ``now`` is in nanoseconds."""
    token = ""
    while True:
        request = queue_pb.ListJobsRequest(
            queue=queue, states=[job_pb2.JOB_STATE_LEASED], page_size=1000, page_token=token
        )
        page = broker.call(broker.queues.ListJobs, request)
        for info in page.jobs:
            yield (now - info.started_at.ToNanoseconds()) / 1e9
        token = page.next_page_token
        if not token:
            return


def _stuck(ages: Iterable[float], queue: str, longest: float) -> Iterator[Problem]:
    stuck = [age for age in ages if age > longest]
    if stuck:
        found = f"{len(stuck):,}, the longest for {span(max(stuck))}"
        yield Problem(queue, "running", found, f"at most {span(longest)}")


def register(app: typer.Typer) -> None:
    app.command(
        "check",
        epilog=examples(
            "towline check",
            "towline check --max-age 5m --max-dead 0 --min-workers 1",
            "towline check --queue emails --max-ready 1000 --min-success 0.95 --json",
        ),
    )(check)
