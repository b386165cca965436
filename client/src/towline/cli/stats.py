"""`towline stats`: the figures of the broker, its queues and types."""

from __future__ import annotations

from typing import Annotated

import typer

from towline.cli import output
from towline.cli.connection import connect
from towline.cli.exits import UsageError
from towline.cli.figure_views import broker_json, durability_name, figures_json
from towline.cli.formats import count, length, share, span
from towline.cli.options import DEFAULT_TIMEOUT, JsonDocument, Timeout, Url, Yes, examples
from towline.cli.output import Column, number
from towline.v1 import admin_service_pb2 as pb

_FIGURES = (
    number("READY"),
    number("SCHEDULED"),
    number("LEASED"),
    number("DEAD"),
    number("PUSHED"),
    number("COMPLETED"),
    number("FAILED"),
    number("RETRIED"),
    number("SUCCESS"),
    number("P50"),
    number("P95"),
    number("WAIT P95"),
)


def stats(
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", "-q", metavar="QUEUE", help="Only this queue. Can be repeated."),
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Set totals and times of every queue back to zero.")
    ] = False,
    yes: Yes = False,
    json: JsonDocument = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Show depths, totals, rates and times, by queue and by type.

    P50 and P95 are of the time from lease to end, WAIT P95 of the time from ready to lease. Times
    are what this broker saw since it started.
    """
    if reset and queue:
        raise UsageError("--reset: sets back every queue; leave --queue out")
    with connect(url, timeout) as broker:
        if reset:
            output.confirm("Set the totals and times of every queue back to zero?", yes=yes)
            broker.call(broker.admin.ResetStats, pb.ResetStatsRequest())
        answer = broker.call(broker.admin.Stats, pb.StatsRequest(queues=queue or ()))
    if json:
        output.document(stats_json(answer))
    else:
        _print(answer)


def stats_json(answer: pb.StatsResponse) -> dict[str, object]:
    return {
        "total": figures_json(answer.total),
        "queues": [
            {"queue": each.queue, "paused": each.paused, **figures_json(each.figures)}
            for each in answer.queues
        ],
        "types": [{"type": each.type, **figures_json(each.figures)} for each in answer.types],
        "broker": broker_json(answer.broker),
    }


def _print(answer: pb.StatsResponse) -> None:
    broker = answer.broker
    output.pairs(
        {
            "broker": f"towline-broker {broker.version}, up {span(length(broker, 'uptime'))}",
            **_stores(broker),
            "workers": count(broker.workers),
            "oldest ready": span(length(answer.total, "oldest_ready_age")),
        }
    )
    output.say("")
    queues = [
        [each.queue + (" (paused)" if each.paused else ""), *_row(each.figures)]
        for each in answer.queues
    ]
    output.table(
        (Column("QUEUE"), *_FIGURES), [*queues, ["total", *_row(answer.total)]], folds=True
    )
    if answer.types:
        output.say("")
        types = [[each.type, *_row(each.figures)] for each in answer.types]
        output.table((Column("TYPE"), *_FIGURES), types, folds=True)


def _stores(broker: pb.BrokerInfo) -> dict[str, str]:
    if len(broker.stores) < 2:
        return {"store": _promise(broker)}
    return {f"store {store.name}": _promise(store) for store in broker.stores}


def _promise(store: pb.BrokerInfo | pb.StoreInfo) -> str:
    return f"{store.driver}, {durability_name(store.durability).lower()}: {store.durability_note}"


def _row(figures: pb.Figures) -> list[str]:
    depth, totals = figures.depth, figures.totals
    rate = figures.success_rate if figures.HasField("success_rate") else None
    return [
        count(depth.ready),
        count(depth.scheduled),
        count(depth.leased),
        count(depth.dead),
        count(totals.pushed),
        count(totals.completed),
        count(totals.failed),
        count(totals.retried),
        share(rate),
        span(length(figures.processing, "p50")),
        span(length(figures.processing, "p95")),
        span(length(figures.wait, "p95")),
    ]


def register(app: typer.Typer) -> None:
    app.command(
        "stats",
        epilog=examples(
            "towline stats",
            "towline stats --queue emails --queue reports",
            "towline stats --json | jq .total.depth",
        ),
    )(stats)
