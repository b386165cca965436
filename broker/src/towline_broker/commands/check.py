"""``towline-broker check``: whether a store holds together."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from towline_broker.archive import checks
from towline_broker.commands import offline, options
from towline_broker.commands.chosen_store import ChosenStore, chosen_store
from towline_broker.commands.helping import examples, with_codes
from towline_broker.commands.telling import say
from towline_broker.drivers.findings import Finding, Report
from towline_broker.server.exits import Codes, ExitCode

HELP = """Read a whole store, and say whether it holds together, with a line for each thing wrong.

\b
  file:        every frame of the journal by its checksum, and what it tells
  sqlite:      SQLite's own integrity check, and that the rows agree
  postgresql:, mysql:   that the rows agree
  redis:       that each job is in the lists of its state, and in no other
  sqs:         that it answers

It also names queues that give workers nothing because an import or a move is under way, or was cut
off.

Changes nothing. Brokers may be at work, but all is read: on a large store it takes a while, and
costs the server something. Exactly what is missing at the end of a sqlite: store is told only if no
broker uses it.
"""

CODES: Codes = offline.CODES | {
    ExitCode.OK: "sound",
    ExitCode.NO: "something is wrong, or an import or a move is not finished",
    ExitCode.STORE_REFUSED: "the store was refused: it is not there or not ours; with --repair, a "
    "broker uses it, or its kind cannot be repaired in place",
    ExitCode.UNAVAILABLE: "the store cannot be reached, or changes faster than it can be read",
    ExitCode.NOT_WRITTEN: "a file of the store cannot be read, or its disk is full",
}

EXAMPLES = examples(
    "towline-broker check",
    "towline-broker check --config /etc/towline/broker.toml --store fast",
    "towline-broker check --store sqlite:///jobs.db --repair",
)

#: Of findings with one way out, those that are printed; JSON has all.
MOST_SHOWN = 20


def register(app: typer.Typer) -> None:
    summary = "Say whether a store holds together."
    app.command("check", help=with_codes(HELP, CODES), short_help=summary, epilog=EXAMPLES)(command)


def command(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Put right what can be without losing anything: counts, and what belongs to no "
            "job, of a sqlite: store that no broker uses.",
        ),
    ] = False,
    as_json: options.Json = False,
    store: options.Store = None,
    config: options.Config = None,
) -> None:
    chosen = chosen_store(store, config)
    began = time.monotonic()
    with offline.errors_told(chosen):
        report = checks.repair(chosen.url) if repair else checks.check(chosen.url)
    if as_json:
        typer.echo(json.dumps(_told(chosen, report), indent=2, ensure_ascii=False))
    else:
        for line in _lines(report):
            typer.echo(line)
        _sum_up(chosen, report, time.monotonic() - began)
    raise typer.Exit(ExitCode.NO if report.findings else ExitCode.OK)


def _lines(report: Report) -> Iterator[str]:
    """What one way out is for stands together, with the way out below it."""
    for what in report.repaired:
        yield f"repaired: {what}"
    by_way_out: dict[str, list[Finding]] = {}
    for finding in report.findings:
        by_way_out.setdefault(finding.way_out, []).append(finding)
    for way_out, findings in by_way_out.items():
        yield from _group(findings)
        if way_out:
            yield f"  -> {way_out}"


def _group(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings[:MOST_SHOWN]:
        yield finding.what
    if len(findings) > MOST_SHOWN:
        yield f"and {len(findings) - MOST_SHOWN:,} more like these (all of them: --json)"


def _sum_up(chosen: ChosenStore, report: Report, took: float) -> None:
    contents = f": {report.summary}" if report.summary else ""
    if not report.findings:
        say(f"{chosen.shown} is sound, {took:.1f} s{contents}")
        return
    number = len(report.findings)
    things = "1 thing is wrong" if number == 1 else f"{number:,} things are wrong"
    say(f"{chosen.shown}: {things}, {took:.1f} s{contents}")


def _told(chosen: ChosenStore, report: Report) -> dict[str, object]:
    return {
        "store": chosen.shown,
        "sound": not report.findings,
        "contents": report.summary,
        "findings": [
            {"what": one.what, "way_out": one.way_out, "repairable": one.repairable}
            for one in report.findings
        ],
        "repaired": list(report.repaired),
    }
