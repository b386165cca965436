"""`towline dead`: look at the dead-letter queue and decide about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Protocol

import typer

from towline.cli import bulk, output, values
from towline.cli.connection import Broker, connect
from towline.cli.exits import Failed, UsageError
from towline.cli.formats import many
from towline.cli.job_views import print_job, reason_name, state_name
from towline.cli.listing import DEAD_LIST, print_jobs
from towline.cli.options import (
    DEFAULT_TIMEOUT,
    DryRun,
    Id,
    JsonDocument,
    JsonLines,
    Timeout,
    Url,
    Yes,
    examples,
)
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import dead_letter_service_pb2 as pb
from towline.v1 import job_pb2

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at the dead-letter queue, and requeue or discard its jobs.",
    epilog=examples(
        "towline dead list --queue emails --since 1h",
        "towline dead requeue --type SendEmail --dry-run",
        "towline dead discard --all --before 30d",
    ),
)

FilterQueue = Annotated[
    str, typer.Option("--queue", "-q", metavar="QUEUE", help="Only of this queue.")
]
FilterType = Annotated[str, typer.Option("--type", metavar="TYPE", help="Only of this type.")]
FilterReason = Annotated[
    str,
    typer.Option(
        "--reason",
        metavar="REASON",
        help="Only these: attempts_exhausted, rejected, expired or lease_expired.",
    ),
]
Since = Annotated[
    str,
    typer.Option("--since", metavar="WHEN", help="Died since then: 1h (ago), or 2026-03-01T08:00."),
]
Before = Annotated[
    str, typer.Option("--before", metavar="WHEN", help="Died before then; as for --since.")
]
All = Annotated[bool, typer.Option("--all", help="Every dead job, or every one that fits.")]
Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ID",
        show_default=False,
        help="Ids of dead jobs; - reads them from standard input.",
    ),
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show at most so many.")]


@dataclass(frozen=True)
class Wanted:
    """Which dead jobs the options ask for."""

    queue: str = ""
    type: str = ""
    reason: str = ""
    since: str = ""
    before: str = ""

    def __bool__(self) -> bool:
        return any((self.queue, self.type, self.reason, self.since, self.before))

    def filter(self, now: datetime) -> pb.DeadFilter:
        """Return the filter; ``now`` is the time on the clock that the jobs died by."""
        wanted = pb.DeadFilter(queue=self.queue, type=self.type, reason=_reason(self.reason))
        if self.since:
            wanted.dead_after.FromDatetime(values.moment(self.since, "--since", now))
        if self.before:
            wanted.dead_before.FromDatetime(values.moment(self.before, "--before", now))
        return wanted


def _reason(text: str) -> job_pb2.DeadReason.ValueType:
    if not text:
        return job_pb2.DEAD_REASON_UNSPECIFIED
    reasons = {reason_name(reason): reason for reason in job_pb2.DeadReason.values() if reason}
    try:
        return reasons[text.upper().replace("-", "_")]
    except KeyError:
        known = ", ".join(name.lower() for name in reasons)
        raise UsageError(f"--reason: {text!r} is none of {known}") from None


@app.command(
    "list",
    epilog=examples(
        "towline dead list",
        "towline dead list --queue emails --reason rejected --since 2h",
        "towline dead list --json | jq -r .id | towline dead requeue -",
    ),
)
def list_dead(
    queue: FilterQueue = "",
    type: FilterType = "",
    reason: FilterReason = "",
    since: Since = "",
    before: Before = "",
    limit: Limit = 100,
    json: JsonLines = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """List dead jobs, in the order in which they died."""
    wanted = Wanted(queue, type, reason, since, before)
    with connect(url, timeout) as broker:
        wanted_filter = wanted.filter(_store_time(broker))

        def page(size: int, token: str) -> pb.ListDeadResponse:
            request = pb.ListDeadRequest(filter=wanted_filter, page_size=size, page_token=token)
            return broker.call(broker.dead.ListDead, request)

        print_jobs(page, limit, DEAD_LIST, as_json=json)


@app.command("show", epilog=examples("towline dead show 01980a3c-7d7e-7c4e-9f5e-3d6a1c1f0a11"))
def show_dead(
    id: Id,
    json: JsonDocument = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Show everything about a dead job, its payload and stack trace included."""
    with connect(url, timeout) as broker:
        info = broker.job(id)
    if info.state != job_pb2.JOB_STATE_DEAD:
        raise Failed(
            f"job {id} is {state_name(info.state)}, not dead; see it with: towline job show {id}"
        )
    print_job(info, as_json=json)


@app.command(
    "requeue",
    epilog=examples(
        "towline dead requeue 01980a3c-7d7e-7c4e-9f5e-3d6a1c1f0a11",
        "towline dead requeue --queue emails --type SendEmail --since 1d",
        "towline dead requeue --all --dry-run",
    ),
)
def requeue(
    ids: Ids = None,
    queue: FilterQueue = "",
    type: FilterType = "",
    reason: FilterReason = "",
    since: Since = "",
    before: Before = "",
    all: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: JsonDocument = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Make dead jobs ready again; their attempts start over."""
    wanted = Wanted(queue, type, reason, since, before)
    with connect(url, timeout) as broker:

        def call(selection: pb.DeadSelection, limit: int, dry_run: bool = False) -> bulk.Step:
            request = pb.RequeueDeadRequest(selection=selection, limit=limit, dry_run=dry_run)
            answer = broker.call(broker.dead.RequeueDead, request)
            return bulk.Step(answer.matched, answer.requeued)

        action = _Action("requeue", "requeued", "Requeue {}?", call)
        _decide(broker, action, _chosen(ids, wanted, all), wanted, dry_run, yes, json)


@app.command(
    "discard",
    epilog=examples(
        "towline dead discard 01980a3c-7d7e-7c4e-9f5e-3d6a1c1f0a11",
        "towline dead discard --queue emails --before 30d",
        "towline dead discard --all --dry-run",
    ),
)
def discard(
    ids: Ids = None,
    queue: FilterQueue = "",
    type: FilterType = "",
    reason: FilterReason = "",
    since: Since = "",
    before: Before = "",
    all: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: JsonDocument = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Remove dead jobs for good."""
    wanted = Wanted(queue, type, reason, since, before)
    with connect(url, timeout) as broker:

        def call(selection: pb.DeadSelection, limit: int, dry_run: bool = False) -> bulk.Step:
            request = pb.DiscardDeadRequest(selection=selection, limit=limit, dry_run=dry_run)
            answer = broker.call(broker.dead.DiscardDead, request)
            return bulk.Step(answer.matched, answer.discarded)

        action = _Action("discard", "discarded", "Remove {} for good?", call)
        _decide(broker, action, _chosen(ids, wanted, all), wanted, dry_run, yes, json)


class Call(Protocol):
    """Handles at most ``limit`` of the selected jobs, or only counts them."""

    def __call__(
        self, selection: pb.DeadSelection, limit: int, dry_run: bool = False
    ) -> bulk.Step: ...


@dataclass(frozen=True)
class _Action:
    verb: str
    done: str
    question: str
    call: Call


def _chosen(ids: list[str] | None, wanted: Wanted, all: bool) -> list[str]:
    """Return the ids, none when a filter is meant. Raises UsageError when both or neither are."""
    if ids and (wanted or all):
        raise UsageError("give either ids or filters (--queue, --type, ..., --all), not both")
    if not (ids or wanted or all):
        raise UsageError(
            "say which: ids, filters (--queue, --type, --reason, --since, --before), or --all"
        )
    return values.ids_argument(ids) if ids else []


def _decide(
    broker: Broker,
    action: _Action,
    ids: list[str],
    wanted: Wanted,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    """Count what is selected, ask, act in bounded steps, and say what was done."""
    selections = _selections(broker, ids, wanted)
    matched = sum(
        action.call(selection, bulk.BATCH, dry_run=True).matched for selection in selections
    )
    done = 0
    if matched and not dry_run:
        if not (ids and action.verb == "requeue"):
            output.confirm(action.question.format(many(matched, "dead job")), yes=yes)
        done = sum(
            bulk.repeat(action.verb, matched, partial(action.call, selection))
            for selection in selections
        )
    if json:
        output.document({"matched": matched, action.done: done, "dry_run": dry_run})
    elif dry_run:
        output.say(f"{many(matched, 'dead job')} would be {action.done}")
    else:
        output.say(f"{many(done, 'dead job')} {action.done}")
    if len(ids) > matched:
        raise Failed(f"{len(ids) - matched} of {len(ids)} ids are not in the dead-letter queue")


def _selections(broker: Broker, ids: list[str], wanted: Wanted) -> list[pb.DeadSelection]:
    if ids:
        return [
            pb.DeadSelection(ids=ids[start : start + bulk.BATCH])
            for start in range(0, len(ids), bulk.BATCH)
        ]
    now = _store_time(broker)
    chosen = wanted.filter(now)
    if not chosen.HasField("dead_before"):
        # A job that dies again while this is at work is not to go round and round.
        chosen.dead_before.FromDatetime(now + timedelta(milliseconds=1))
    return [pb.DeadSelection(filter=chosen)]


def _store_time(broker: Broker) -> datetime:
    """Return the time on the store's clock: that of this machine may be wrong."""
    stats = broker.call(broker.admin.Stats, admin.StatsRequest())
    return stats.broker.store_time.ToDatetime(tzinfo=UTC)
