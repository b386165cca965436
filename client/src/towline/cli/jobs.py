"""`towline job`: show, list and cancel jobs."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from towline.cli import bulk, output, values
from towline.cli.connection import Broker, connect
from towline.cli.exits import Exit, Failed, UsageError
from towline.cli.formats import enum_name
from towline.cli.job_views import print_job, state_name
from towline.cli.listing import JOB_LIST, print_jobs
from towline.cli.options import (
    DEFAULT_TIMEOUT,
    Id,
    JsonDocument,
    JsonLines,
    Timeout,
    Url,
    examples,
)
from towline.errors import ResultTimeout
from towline.v1 import job_pb2
from towline.v1 import queue_service_pb2 as pb

ENDED = (
    job_pb2.JOB_STATE_SUCCEEDED,
    job_pb2.JOB_STATE_DEAD,
    job_pb2.JOB_STATE_CANCELLED,
)

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show, list and cancel jobs.",
    epilog=examples(
        "towline job show 01980a3c-7d7e-7c4e-9f5e-3d6a1c1f0a11",
        "towline job list --queue emails --state leased",
        "towline job cancel 01980a3c-7d7e-7c4e-9f5e-3d6a1c1f0a11",
    ),
)


@app.command(
    "show",
    epilog=examples(
        "towline job show 01980a3c-7d7e-7c4e-9f5e-3d6a1c1f0a11",
        'towline job show "$id" --wait 1m --json | jq .result',
    ),
)
def show(
    id: Id,
    wait: Annotated[
        str | None,
        typer.Option("--wait", metavar="DURATION", help="Wait at most so long for its end."),
    ] = None,
    json: JsonDocument = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Show everything about a job, its payload, result and stack trace included.

    With --wait, exits with 4 when the job has not ended by then.
    """
    limit = values.optional_seconds(wait, "--wait")
    with connect(url, timeout) as broker:
        info = broker.job(id) if limit is None else await_end(broker, id, limit)
    print_job(info, as_json=json)
    if limit is not None and info.state not in ENDED:
        raise Failed(f"job {id} has not ended: it is {state_name(info.state)}", Exit.TIMEOUT)


def await_end(broker: Broker, id: str, limit: float | None) -> job_pb2.JobInfo:
    """Return the job once it has ended, or after ``limit`` seconds (None: wait for ever)."""
    with output.waiting(f"waiting for job {id}"), suppress(ResultTimeout):
        broker.client.wait(id, timeout=limit)
    return broker.job(id)


@app.command(
    "list",
    epilog=examples(
        "towline job list",
        "towline job list --queue emails --state ready --state scheduled",
        "towline job list --type SendEmail --limit 1000 --json | jq -r .id",
    ),
)
def list_jobs(
    queue: Annotated[
        str, typer.Option("--queue", "-q", metavar="QUEUE", help="Only of this queue.")
    ] = "",
    type: Annotated[str, typer.Option("--type", metavar="TYPE", help="Only of this type.")] = "",
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help="Only in this state, such as ready or leased. Can be repeated.",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="Show at most so many.")
    ] = 100,
    json: JsonLines = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """List jobs, in the order in which they were pushed."""
    states = [_state(text) for text in state or ()]
    with connect(url, timeout) as broker:

        def page(size: int, token: str) -> pb.ListJobsResponse:
            request = pb.ListJobsRequest(
                queue=queue, type=type, states=states, page_size=size, page_token=token
            )
            return broker.call(broker.queues.ListJobs, request)

        print_jobs(page, limit, JOB_LIST, as_json=json)


def _state(text: str) -> job_pb2.JobState.ValueType:
    states = {state_name(state): state for state in job_pb2.JobState.values() if state}
    try:
        return states[text.upper()]
    except KeyError:
        known = ", ".join(name.lower() for name in states)
        raise UsageError(f"--state: {text!r} is none of {known}") from None


@app.command(
    "cancel",
    epilog=examples(
        "towline job cancel 01980a3c-7d7e-7c4e-9f5e-3d6a1c1f0a11",
        "towline job list --type SendEmail --json | jq -r .id | towline job cancel -",
    ),
)
def cancel(
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID", help="Ids of jobs; - reads them from standard input."),
    ],
    json: JsonLines = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Cancel jobs.

    A worker that runs one is told at its next heartbeat. Exits with 1 unless every one of them is
    cancelled now.
    """
    chosen = values.ids_argument(ids)
    results: list[pb.CancelResult] = []
    with connect(url, timeout) as broker:
        for start in range(0, len(chosen), bulk.BATCH):
            request = pb.CancelJobRequest(ids=chosen[start : start + bulk.BATCH])
            results.extend(broker.call(broker.queues.CancelJob, request).results)
    for result in results:
        outcome = enum_name(pb.CancelOutcome, result.outcome)
        if json:
            output.line({"id": result.job_id, "outcome": outcome})
        else:
            output.say(f"{result.job_id}  {outcome.lower().replace('_', ' ')}")
    missed = sum(result.outcome != pb.CANCEL_OUTCOME_CANCELLED for result in results)
    if missed:
        raise Failed(f"{missed} of {len(results)} jobs could not be cancelled")
