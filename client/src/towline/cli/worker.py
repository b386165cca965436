"""`towline worker`: load a module of jobs and run them."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, cast

import typer

from towline.cli import output, values
from towline.cli.connection import connect
from towline.cli.exits import UsageError
from towline.cli.loading import load, queues_of
from towline.cli.options import DEFAULT_TIMEOUT, Url, examples
from towline.errors import ConfigurationError
from towline.registry import JobDefinition
from towline.worker import Worker
from towline.worker.options import PoolName


def worker(
    module: Annotated[
        str,
        typer.Argument(
            metavar="MODULE",
            help="The module that defines the jobs, app.jobs; of a package, all its modules.",
        ),
    ],
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            "-q",
            metavar="QUEUE[=WEIGHT]",
            help="Take jobs from here. Repeated: in strict order, or by weight, such as mail=3. "
            "Without it: from every queue that the jobs of MODULE name, in turn.",
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", metavar="N", help="Jobs at the same time.")
    ] = 8,
    pool: Annotated[
        str,
        typer.Option("--pool", metavar="thread|async|process", help="Where jobs run."),
    ] = "thread",
    processes: Annotated[
        int,
        typer.Option(
            "--processes",
            metavar="N",
            help="Workers side by side, each a process with --concurrency slots of its own.",
        ),
    ] = 1,
    once: Annotated[
        bool, typer.Option("--once", help="Run one job if one is ready, then exit.")
    ] = False,
    max_jobs: Annotated[
        int | None, typer.Option("--max-jobs", metavar="N", help="Exit after so many jobs.")
    ] = None,
    max_jobs_per_child: Annotated[
        int | None,
        typer.Option(
            "--max-jobs-per-child",
            metavar="N",
            help="Replace a child of --pool process, or one of --processes, after so many jobs.",
        ),
    ] = None,
    max_memory_per_child: Annotated[
        str | None,
        typer.Option(
            "--max-memory-per-child",
            metavar="SIZE",
            help="The same when it holds more memory than this: 200MB, 1GiB.",
        ),
    ] = None,
    max_time: Annotated[
        str | None, typer.Option("--max-time", metavar="DURATION", help="Exit after this long.")
    ] = None,
    lease: Annotated[
        str,
        typer.Option(
            "--lease",
            metavar="DURATION",
            help="How soon a job goes to another worker when this one dies. 1s to 12h.",
        ),
    ] = "30s",
    drain_timeout: Annotated[
        str,
        typer.Option(
            "--drain-timeout", metavar="DURATION", help="How long jobs may run on after Ctrl-C."
        ),
    ] = "30s",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say also when each job starts.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Say only what goes wrong; not each job that is done.")
    ] = False,
    url: Url = None,
) -> None:
    """Run the jobs that a module defines, until Ctrl-C.

    MODULE is imported with the working directory on the Python path. At Ctrl-C or SIGTERM the jobs
    that run may finish; a second one stops at once, and they are given back.

    Each job that ended is a line on standard error: its id, type, attempt and duration.
    """
    if quiet and verbose:
        raise UsageError("--quiet: cannot be combined with --verbose")
    definitions = load(module)
    queues = values.weighted_queues(queue) if queue else queues_of(definitions)
    _log_to_stderr(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    try:
        runner = Worker(
            url,
            queues=queues,
            concurrency=concurrency,
            pool=cast(PoolName, pool),
            processes=processes,
            max_jobs_per_child=max_jobs_per_child,
            max_memory_per_child=max_memory_per_child,
            lease=values.seconds(lease, "--lease"),
            max_jobs=max_jobs,
            max_time=values.optional_seconds(max_time, "--max-time"),
            drain_timeout=values.seconds(drain_timeout, "--drain-timeout"),
        )
    except ConfigurationError as error:
        setting, _, rest = str(error).partition(":")
        raise UsageError(f"--{_OPTIONS.get(setting, setting)}:{rest}") from None
    if not quiet:
        _introduce(definitions, queues)
    if not once:
        runner.run()
        return
    runner.prepare()  # a process pool can be made only before anything connects
    with connect(url, DEFAULT_TIMEOUT):  # says at once when there is no broker
        taken = runner.run_once()
    if not taken and not quiet:
        output.note("no job was ready")


# Where a setting of Worker and the option for it have different names.
_OPTIONS = {
    "address": "url",
    "queues": "queue",
    "max_jobs": "max-jobs",
    "max_jobs_per_child": "max-jobs-per-child",
    "max_memory_per_child": "max-memory-per-child",
    "max_jobs_per_child, max_memory_per_child": "max-jobs-per-child, --max-memory-per-child",
}


def _log_to_stderr(level: int) -> None:
    logging.basicConfig(
        stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("towline").setLevel(level)


def _introduce(definitions: list[JobDefinition], queues: list[str] | dict[str, int]) -> None:
    if isinstance(queues, dict):
        queues = [f"{name}={weight}" for name, weight in queues.items()]
    output.note(f"queues  {', '.join(queues)}")
    output.note(f"jobs    {', '.join(definition.type for definition in definitions)}")


def register(app: typer.Typer) -> None:
    app.command(
        "worker",
        context_settings={"auto_envvar_prefix": "TOWLINE_WORKER"},
        epilog=examples(
            "towline worker app.jobs",
            "towline worker app.jobs --queue emails --queue reports --concurrency 4",
            "towline worker app.jobs --queue emails=3 --queue reports=1 --pool async",
            "towline worker app.jobs --pool process --max-memory-per-child 500MB",
            "towline worker app.jobs --processes 4 --concurrency 2",
            "towline worker app.jobs --once",
        ),
    )(worker)
