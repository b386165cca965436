"""``towline-broker backup``: a copy of an embedded store, while a broker uses it."""

import time
from pathlib import Path
from typing import Annotated

import typer

from towline_broker.archive import backups
from towline_broker.commands import offline, options
from towline_broker.commands.chosen_store import chosen_store
from towline_broker.commands.helping import examples, with_codes
from towline_broker.commands.telling import say
from towline_broker.server.exits import Codes, ExitCode

HELP = """Copy a sqlite: or file: store, while its broker goes on.

The copy holds every change that was acknowledged before the command began. It is read through
before it gets its name, and is a store like any other: put it in the place of the lost one, or
start a broker with --store on it.
"""

CODES: Codes = offline.CODES | {
    ExitCode.OK: "the copy is made, and sound",
    ExitCode.STORE_REFUSED: "refused: there is no store, it is damaged, or its kind has a server "
    "whose own tools make backups",
    ExitCode.UNAVAILABLE: "the store changes too fast just now",
    ExitCode.NOT_WRITTEN: "the place of the copy is taken (--force), or cannot be written",
}

EXAMPLES = examples(
    "towline-broker backup --config /etc/towline/broker.toml /backups/monday.db",
    "towline-broker backup --store file:////var/lib/jobs --force /backups/jobs",
)


def register(app: typer.Typer) -> None:
    summary = "Copy a sqlite: or file: store while its broker runs."
    app.command("backup", help=with_codes(HELP, CODES), short_help=summary, epilog=EXAMPLES)(
        command
    )


def command(
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="The copy: a file, or for file: a directory.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Put the copy in the place of a store that is there.")
    ] = False,
    store: options.Store = None,
    config: options.Config = None,
) -> None:
    chosen = chosen_store(store, config)
    began = time.monotonic()
    with offline.errors_told(chosen):
        contents = backups.back_up(chosen.url, target, force=force)
    took = time.monotonic() - began
    say(f"backed up {chosen.shown} to {target} in {took:.1f} s: {contents}")
