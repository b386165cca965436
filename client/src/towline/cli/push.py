"""`towline push`: one job, by the name of its type and JSON."""

from __future__ import annotations

from typing import Annotated

import typer

from towline.cli import output, values
from towline.cli.connection import connect
from towline.cli.exits import Exit, Failed, UsageError
from towline.cli.job_views import failure_text, readable, reason_name, state_name, whole_job_json
from towline.cli.jobs import ENDED, await_end
from towline.cli.options import DEFAULT_TIMEOUT, JsonDocument, Timeout, Url, examples
from towline.handles import JobHandle
from towline.options import DispatchOptions
from towline.serialization import CONTENT_TYPE
from towline.v1 import job_pb2


def push(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="What to run, as workers know it.")],
    data: Annotated[
        str,
        typer.Argument(metavar="JSON", help="The arguments: JSON, @FILE, or - for standard input."),
    ] = "{}",
    queue: Annotated[
        str, typer.Option("--queue", "-q", metavar="QUEUE", help="The line in which it waits.")
    ] = "default",
    delay: Annotated[
        str | None,
        typer.Option("--delay", metavar="DURATION", help="Not before this long from now."),
    ] = None,
    priority: Annotated[
        int, typer.Option("--priority", metavar="N", help="Higher leaves first.")
    ] = 0,
    max_attempts: Annotated[
        int | None,
        typer.Option("--max-attempts", metavar="N", help="Attempts in all; 1 is no retry."),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option("--id", metavar="UUID", help="Makes repeating this push safe."),
    ] = None,
    unique_key: Annotated[
        str | None,
        typer.Option(
            "--unique-key",
            metavar="KEY",
            help="Store nothing while an unfinished job of the queue has this key.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for its end, and print its result.")
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
    """Push one job, and print its id.

    A push whose id or unique key is taken stores nothing and prints the id of the job that is
    there. With --wait, prints the result instead, and exits with 1 when the job ends without one.
    """
    limit = values.optional_seconds(wait_timeout, "--wait-timeout")
    if limit is not None and not wait:
        raise UsageError("--wait-timeout: goes with --wait")
    options: DispatchOptions = {
        "delay": values.optional_seconds(delay, "--delay"),
        "priority": priority,
        "max_attempts": max_attempts,
        "id": id,
        "unique_key": unique_key,
    }
    payload = values.json_argument(data)
    with connect(url, timeout) as broker:
        pushed = broker.client.push_raw(queue, type, payload, **options)
        if not pushed.created:
            output.note("nothing was stored: a job with this id or unique key is there already")
        if not wait:
            _print_id(pushed, as_json=json)
            return
        output.note(f"waiting for job {pushed.id}")
        info = await_end(broker, pushed.id, limit)
    if json:
        output.document({"outcome": _outcome(pushed), **whole_job_json(info)})
    elif info.state == job_pb2.JOB_STATE_SUCCEEDED:
        output.say(readable(info.result, info.job.content_type or CONTENT_TYPE) or "null")
    _judge(info)


def _print_id(pushed: JobHandle, *, as_json: bool) -> None:
    if as_json:
        output.document({"id": pushed.id, "outcome": _outcome(pushed)})
    else:
        output.say(pushed.id)


def _outcome(pushed: JobHandle) -> str:
    return "CREATED" if pushed.created else "EXISTING"


def _judge(info: job_pb2.JobInfo) -> None:
    """Raise Failed unless the job succeeded."""
    job_id, state = info.job.id, state_name(info.state)
    if info.state not in ENDED:
        raise Failed(f"job {job_id} has not ended: it is {state}", Exit.TIMEOUT)
    if info.state == job_pb2.JOB_STATE_DEAD:
        why = ": ".join(
            part for part in (reason_name(info.dead_reason), failure_text(info)) if part
        )
        raise Failed(f"job {job_id} is dead: {why}")
    if info.state == job_pb2.JOB_STATE_CANCELLED:
        raise Failed(f"job {job_id} was cancelled")


def register(app: typer.Typer) -> None:
    app.command(
        "push",
        epilog=examples(
            """towline push SendEmail '{"to": "a@b.c", "subject": "Hi"}' --queue emails""",
            "towline push BuildReport @arguments.json --delay 1h30m --unique-key march",
            "generate | towline push Import - --wait --wait-timeout 5m",
        ),
    )(push)
