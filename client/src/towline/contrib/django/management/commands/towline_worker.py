"""``manage.py towline_worker``: run the jobs of the installed apps."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from django.core.management.base import (  # type: ignore[import-untyped]
    BaseCommand,
    CommandError,
)
from django.db import connections  # type: ignore[import-untyped]

from towline.contrib.django.conf import worker_options
from towline.contrib.django.connections import FreshConnections
from towline.errors import TowlineError
from towline.named import clients
from towline.registry import default_registry
from towline.worker import Worker

LEVELS = {0: logging.WARNING, 1: logging.INFO}
"""By --verbosity; above that, starts of jobs are told too."""

OPTIONS = ("queues", "concurrency", "pool", "processes", "max_jobs", "max_time")
"""Of Worker, those that can be given here; the setting TOWLINE_WORKER can give any."""


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    help = (
        "Runs the jobs that the jobs.py of installed apps define, until SIGTERM or Ctrl-C. "
        "The setting TOWLINE_WORKER has what is not given here: the arguments of towline.Worker."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "-q",
            "--queue",
            dest="queues",
            action="append",
            metavar="QUEUE[=WEIGHT]",
            help="Take jobs from here; repeated: in strict order, or by weight. "
            "Without it: from every queue that jobs name, in turn.",
        )
        parser.add_argument("-c", "--concurrency", type=int, help="Jobs at the same time.")
        parser.add_argument("--pool", help="Where jobs run: thread, async or process.")
        parser.add_argument("--processes", type=int, help="Workers side by side.")
        parser.add_argument("--max-jobs", type=int, help="Exit after so many jobs.")
        parser.add_argument("--max-time", type=float, help="Exit after so many seconds.")
        parser.add_argument("--once", action="store_true", help="Run one job if one is ready.")
        parser.add_argument(
            "--client", default=None, help="A name in the setting TOWLINE, of the broker to serve."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        given = {name: options[name] for name in OPTIONS if options[name] is not None}
        if "queues" in given:
            given["queues"] = _queues(given["queues"])
        _log_to_stderr(LEVELS.get(options["verbosity"], logging.DEBUG))
        try:
            worker = _worker(options["client"], given)
            connections.close_all()  # processes that are forked must not share them
            if options["once"]:
                worker.run_once()
            else:
                worker.run()
        except TowlineError as error:
            raise CommandError(str(error)) from error


def _worker(client: str | None, given: dict[str, Any]) -> Worker:
    options = {**worker_options(), **given}
    options["middleware"] = [FreshConnections(), *options["middleware"]]
    queues = options.pop("queues", None) or dict.fromkeys(default_registry.queues(), 1)
    if not queues:
        raise CommandError(
            "no installed app defines jobs: write them in its jobs.py, as classes of towline.Job "
            "or functions with @job"
        )
    name = client or clients.default_name
    if name not in clients:
        raise CommandError(
            f"--client: there is no client {name!r} in the setting TOWLINE; "
            f"there are {', '.join(clients)}"
        )
    try:
        return Worker(clients[name], queues, **options)
    except TypeError as error:
        raise CommandError(f"TOWLINE_WORKER: {error}") from None


def _queues(named: list[str]) -> list[str] | dict[str, int]:
    """Return the queues in strict order, or with weights if there are any."""
    if not any("=" in each for each in named):
        return named
    weights = {}
    for each in named:
        name, _, weight = each.partition("=")
        if not weight.isascii() or not weight.isdigit():
            raise CommandError(f"--queue: expected QUEUE=WEIGHT for each or for none, got {each!r}")
        weights[name] = int(weight)
    return weights


def _log_to_stderr(level: int) -> None:
    """Have the worker's lines shown, unless the project's LOGGING takes care of them."""
    logger = logging.getLogger("towline")
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(level)
