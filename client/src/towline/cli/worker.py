"""`towline worker`: load a module of jobs and run them."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, cast

import typer

from towline.cli import output, values
from towline.cli.connection import connect
from towline.cli.exits import UsageError
from towline.cli.loading import import_module, load, load_worker, queues_of_jobs
from towline.cli.options import DEFAULT_TIMEOUT, Url, examples
from towline.cli.reloading import run_again_on_change
from towline.errors import ConfigurationError
from towline.registry import JobDefinition
from towline.worker import Worker
from towline.worker.options import PREFETCH, PoolName


def worker(
    context: typer.Context,
    module: Annotated[
        str,
        typer.Argument(
            metavar="MODULE",
            help="The module that defines the jobs, app.jobs; of a package, all its modules. "
            "Or a Worker of your own: app.worker:worker.",
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
    prefetch: Annotated[
        int,
        typer.Option(
            "--prefetch",
            metavar="N",
            help="Jobs held here that wait for a slot, at most. Fewer, and soon none, the longer "
            "jobs take.",
        ),
    ] = PREFETCH,
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
    stop_when_empty: Annotated[
        bool,
        typer.Option("--stop-when-empty", help="Exit once no job is ready and none runs here."),
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
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory",
            metavar="SIZE",
            help="Exit when this process holds more memory than this: 500MB.",
        ),
    ] = None,
    type: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Run jobs of this type only. Can be repeated; others go back for another worker.",
        ),
    ] = None,
    tries: Annotated[
        int | None,
        typer.Option(
            "--tries",
            metavar="N",
            help="A job that fails at its Nth attempt, or later, is dead, whatever its policy.",
        ),
    ] = None,
    job_timeout: Annotated[
        str | None,
        typer.Option(
            "--job-timeout",
            metavar="DURATION",
            help="For an attempt of a job that names no timeout of its own.",
        ),
    ] = None,
    sleep: Annotated[
        str,
        typer.Option(
            "--sleep", metavar="DURATION", help="From an answer without jobs to the next question."
        ),
    ] = "0s",
    lease: Annotated[
        str | None,
        typer.Option(
            "--lease",
            metavar="DURATION",
            help="How soon a job goes to another worker when this one dies, 1s to 12h. Without it: "
            "as the broker is set for the queue, 30s by default.",
        ),
    ] = None,
    drain_timeout: Annotated[
        str,
        typer.Option(
            "--drain-timeout", metavar="DURATION", help="How long jobs may run on after Ctrl-C."
        ),
    ] = "30s",
    health_file: Annotated[
        str | None,
        typer.Option(
            "--health-file", metavar="FILE", help="Kept young for as long as the worker is alive."
        ),
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            "--health-port", metavar="PORT", help="Answers GET /livez and /readyz on 127.0.0.1."
        ),
    ] = None,
    preload: Annotated[
        list[str] | None,
        typer.Option(
            "--preload",
            metavar="MODULE",
            help="Import this too, before processes are forked: they share its memory. Can be "
            "repeated.",
        ),
    ] = None,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload/--no-reload",
            help="Start anew when a Python file below this folder changes.",
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say also when each job starts.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Say only what goes wrong; not each job that is done.")
    ] = False,
    url: Url = None,
) -> None:
    """Run the jobs that a module defines, until Ctrl-C.

    MODULE is imported with the working directory on the Python path. At Ctrl-C, SIGTERM or SIGHUP
    the jobs that run may finish; a second one stops at once, and they are given back.

    Each job that ended is a line on standard error: its id, type, attempt and duration.
    """
    if quiet and verbose:
        raise UsageError("--quiet: cannot be combined with --verbose")
    if reload:
        # The last word on it: settings may ask for it as well, and would ask each new process.
        again = [*sys.argv[1:], "--no-reload"]
        run_again_on_change(again, values.seconds(drain_timeout, "--drain-timeout"))
        return
    for each in preload or ():
        import_module(each, "--preload")
    _log_to_stderr(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    if ":" in module:
        _refuse_options(context)
        _run(load_worker(module), url, once=once, quiet=quiet)
        return
    definitions = load(module)
    queues = values.weighted_queues(queue) if queue else queues_of_jobs()
    try:
        runner = Worker(
            url,
            queues=queues,
            concurrency=concurrency,
            pool=cast(PoolName, pool),
            prefetch=prefetch,
            processes=processes,
            max_jobs_per_child=max_jobs_per_child,
            max_memory_per_child=max_memory_per_child,
            lease=values.optional_seconds(lease, "--lease"),
            max_jobs=max_jobs,
            max_time=values.optional_seconds(max_time, "--max-time"),
            max_memory=max_memory,
            types=type or None,
            max_attempts=tries,
            default_timeout=values.optional_seconds(job_timeout, "--job-timeout"),
            sleep=values.seconds(sleep, "--sleep"),
            stop_when_empty=stop_when_empty,
            drain_timeout=values.seconds(drain_timeout, "--drain-timeout"),
            health_file=health_file,
            health_port=health_port,
        )
        if not quiet:
            _introduce(definitions, queues)
        _run(runner, url, once=once, quiet=quiet)
    except ConfigurationError as error:
        raise UsageError(_by_options(str(error))) from None


def _run(runner: Worker, url: str | None, *, once: bool, quiet: bool) -> None:
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
    "types": "type",
    "max_attempts": "tries",
    "default_timeout": "job-timeout",
}


def _by_options(message: str) -> str:
    """Return what a Worker says about its settings as it is to be said about the options."""
    settings, _, rest = message.partition(":")
    names = [_OPTIONS.get(each, each.replace("_", "-")) for each in settings.split(", ")]
    return f"{', '.join(f'--{name}' for name in names)}:{rest}"


# What can be said to a Worker that a module has made.
_OF_ANY_WORKER = frozenset({"module", "once", "preload", "reload", "verbose", "quiet"})


def _refuse_options(context: typer.Context) -> None:
    for name in context.params:
        source = context.get_parameter_source(name)
        typed = source is not None and source.name == "COMMANDLINE"
        if typed and name not in _OF_ANY_WORKER:
            raise UsageError(
                f"--{name.replace('_', '-')}: a Worker that is named has options of its own; "
                "set it there, or name a module of jobs"
            )


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
            "towline worker app.jobs --reload --verbose",
            "towline worker app.worker:worker",
        ),
    )(worker)
