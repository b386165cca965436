"""``flask --app flask_app worker``: the jobs of this application, each within its context."""

import logging
from collections.abc import Generator

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from towline import Worker


class AppContext:
    """Middleware: what is torn down after a request is torn down after a job, too."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def handle(self, job: object, context: object) -> Generator[None, object, None]:
        with self._app.app_context():
            yield


@click.command("worker")
@click.option("--queue", "queues", multiple=True, default=["guests"], show_default=True)
@click.option("--concurrency", default=8, show_default=True)
@with_appcontext
def run_worker(queues: tuple[str, ...], concurrency: int) -> None:
    """Run jobs until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO)
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # of the proxy
    Worker(
        queues=queues,
        concurrency=concurrency,
        middleware=[AppContext(app)],
    ).run()
