"""``towline-broker check``: whether a store holds together."""

import time
from typing import Annotated

import typer

from towline_broker.archive import checks
from towline_broker.commands import offline
from towline_broker.drivers.urls import shown_url

HELP = """Read a whole store, and say whether it holds together, with a line for each thing wrong.

\b
  file:        every frame of the journal by its checksum, and what it tells
  sqlite:      SQLite's own integrity check, and that the rows agree
  postgresql:, mysql:   that the rows agree
  redis:       that each job is in the lists of its state, and in no other
  sqs:         that it answers

Changes nothing. Brokers may be at work, but all is read: on a large store it takes a while, and
costs the server something. Exactly what is missing at the end of a sqlite: store is told only if no
broker uses it.

\b
Exit codes:
  0    sound
  1    something is wrong
  2    wrong use
  66   the store was refused: it is not there or not ours; with --repair, a
       broker uses it, or its kind cannot be repaired in place
  69   the store cannot be reached, or changes faster than it can be read
  130  interrupted
"""

EXAMPLES = """\b
Examples:
  towline-broker check --store sqlite:///jobs.db
  towline-broker check --store sqlite:///jobs.db --repair
"""


def register(app: typer.Typer) -> None:
    summary = "Say whether a store holds together."
    app.command("check", help=HELP, short_help=summary, epilog=EXAMPLES)(command)


def command(
    store: Annotated[str, typer.Option(metavar="URL", help="The store.")],
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Put right what can be without losing anything: counts, and what belongs to no "
            "job, of a sqlite: store that no broker uses.",
        ),
    ] = False,
) -> None:
    began = time.monotonic()
    with offline.errors_told():
        report = checks.repair(store) if repair else checks.check(store)
    for what in report.repaired:
        typer.echo(f"repaired: {what}")
    for finding in report.findings:
        typer.echo(str(finding))
    shown, took = shown_url(store), time.monotonic() - began
    contents = f": {report.summary}" if report.summary else ""
    if report.findings:
        number = len(report.findings)
        things = "1 thing is" if number == 1 else f"{number} things are"
        offline.say(f"{shown}: {things} wrong, {took:.1f} s{contents}")
        raise typer.Exit(offline.Exit.NOT_DONE)
    offline.say(f"{shown} is sound, {took:.1f} s{contents}")
