"""``towline-broker backup``: a copy of an embedded store, while a broker uses it."""

import time
from pathlib import Path
from typing import Annotated

import typer

from towline_broker.archive import backups
from towline_broker.commands import offline

HELP = """Copy a sqlite: or file: store, while its broker goes on.

The copy holds every change that was acknowledged before the command began. It is read through
before it gets its name, and is a store like any other: put it in the place of the lost one, or
start a broker with --store on it.

\b
Exit codes:
  0    the copy is made, and sound
  2    wrong use
  66   refused: there is no store, it is damaged, or its kind has a server
       whose own tools make backups
  69   the store changes too fast just now
  73   the place of the copy is taken (--force), or cannot be written
  130  interrupted
"""

EXAMPLES = """\b
Examples:
  towline-broker backup --store sqlite:///jobs.db /backups/jobs-monday.db
  towline-broker backup --store file:////var/lib/jobs --force /backups/jobs
"""


def register(app: typer.Typer) -> None:
    summary = "Copy a sqlite: or file: store while its broker runs."
    app.command("backup", help=HELP, short_help=summary, epilog=EXAMPLES)(command)


def command(
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="The copy: a file, or for file: a directory.")
    ],
    store: Annotated[str, typer.Option(metavar="URL", help="The store.")],
    force: Annotated[
        bool, typer.Option("--force", help="Put the copy in the place of a store that is there.")
    ] = False,
) -> None:
    began = time.monotonic()
    with offline.errors_told():
        contents = backups.back_up(store, target, force=force)
    offline.say(f"backed up to {target} in {time.monotonic() - began:.1f} s: {contents}")
