"""`towline workers`: who works, and telling one to stop."""

from __future__ import annotations

from typing import Annotated

import typer

from towline.cli import output
from towline.cli.connection import connect
from towline.cli.exits import UsageError
from towline.cli.figure_views import directive_name, worker_json
from towline.cli.formats import at, local
from towline.cli.options import (
    DEFAULT_TIMEOUT,
    JsonDocument,
    JsonLines,
    Timeout,
    Url,
    examples,
)
from towline.cli.output import Column, number
from towline.v1 import admin_service_pb2 as pb
from towline.v1 import queue_service_pb2 as queue_pb

_COLUMNS = (
    Column("WORKER"),
    Column("QUEUES", shrinks=True),
    number("LEASES"),
    Column("TOLD TO"),
    Column("FIRST SEEN"),
    Column("LAST SEEN"),
)

_TOLD = {"NONE": "", "UNSPECIFIED": "", "QUIET": "be quiet", "STOP": "stop"}

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="List the workers, and tell one to stop.",
    epilog=examples("towline workers", "towline workers stop web-1-4242-9f3c2a10 --quiet"),
)


@app.callback()
def workers(
    context: typer.Context,
    json: JsonLines = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    if context.invoked_subcommand is None:
        list_workers(json, url, timeout)
    elif json or url is not None or timeout != DEFAULT_TIMEOUT:
        word = context.invoked_subcommand
        raise UsageError(f"workers: write options behind {word!r}: towline workers {word} --...")


@app.command("list", epilog=examples("towline workers list", "towline workers list --json"))
def list_workers(
    json: JsonLines = False, url: Url = None, timeout: Timeout = DEFAULT_TIMEOUT
) -> None:
    """List the workers heard of within the last minute."""
    with connect(url, timeout) as broker:
        found = broker.call(broker.admin.ListWorkers, pb.ListWorkersRequest()).workers
    if json:
        for worker in found:
            output.line(worker_json(worker))
    elif found:
        output.table(_COLUMNS, [_row(worker) for worker in found])
    else:
        output.note("no workers in the last minute; start one with: towline worker MODULE")


def _row(worker: pb.WorkerInfo) -> list[str]:
    return [
        worker.worker_id,
        ",".join(worker.queues),
        str(worker.leases),
        _TOLD[directive_name(worker.directive)],
        local(at(worker, "first_seen")),
        local(at(worker, "last_seen")),
    ]


@app.command(
    "stop",
    epilog=examples(
        "towline workers stop web-1-4242-9f3c2a10",
        "towline workers stop web-1-4242-9f3c2a10 --quiet",
        "towline workers stop web-1-4242-9f3c2a10 --resume",
    ),
)
def stop(
    worker: Annotated[
        str, typer.Argument(metavar="WORKER", help="Its id, as `towline workers` shows it.")
    ],
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Only take no further jobs, and stay connected.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Take a --quiet back.")] = False,
    json: JsonDocument = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Tell a worker to finish what it has, and exit.

    It hears of it with its next heartbeat.
    """
    if quiet and resume:
        raise UsageError("--quiet, --resume: give one of them")
    directive = queue_pb.WORKER_DIRECTIVE_STOP
    if quiet:
        directive = queue_pb.WORKER_DIRECTIVE_QUIET
    elif resume:
        directive = queue_pb.WORKER_DIRECTIVE_NONE
    with connect(url, timeout) as broker:
        request = pb.StopWorkerRequest(worker_id=worker, directive=directive)
        broker.call(broker.admin.StopWorker, request)
    if json:
        output.document({"worker_id": worker, "directive": directive_name(directive)})
    else:
        told = _TOLD[directive_name(directive)] or "go on"
        output.say(f"{worker} is told to {told} at its next heartbeat")
