"""``towline-broker doctor``: whether a broker would do well here, and what to do."""

import asyncio
import json
from collections import Counter

import typer

from towline_broker.commands import options
from towline_broker.commands.helping import examples, with_codes
from towline_broker.commands.loading import loaded
from towline_broker.commands.settings_options import with_settings
from towline_broker.domain.words import many
from towline_broker.server.configuration.sources import Loaded, Sources
from towline_broker.server.exits import Codes, ExitCode

HELP = """Look at the settings, the stores, the disk, certificates, tokens, the clock and the
addresses of a broker, and say what is wrong and what to do about it.

Takes the same options as serve, and reads the same file and variables. A broker may be running
meanwhile. Jobs are left alone; "towline-broker check" reads a whole store.
"""

CODES: Codes = {
    ExitCode.OK: "a broker would do well, though there may be warnings",
    ExitCode.NO: "there is a problem",
    ExitCode.CONFIG: "",
    ExitCode.INTERRUPTED: "",
}

EXAMPLES = examples(
    "towline-broker doctor",
    "towline-broker doctor --config /etc/towline/broker.toml --json",
)


def register(app: typer.Typer) -> None:
    summary = "Say whether a broker would do well here."
    app.command("doctor", help=with_codes(HELP, CODES), short_help=summary, epilog=EXAMPLES)(
        command
    )


@with_settings
def command(
    sources: Sources,
    as_json: options.Json = False,
) -> None:
    raise typer.Exit(asyncio.run(_examine(loaded(sources), as_json)))


async def _examine(settings: Loaded, as_json: bool) -> ExitCode:
    # Rooms of the whole broker, which take a while to load.
    from towline_broker.doctor.examination import examine
    from towline_broker.doctor.findings import Level

    found = []
    async for finding in examine(settings):
        found.append(finding)
        if not as_json:
            typer.echo(f"{finding.level.value:8} {finding.about}: {finding.text}")
            if finding.remedy:
                typer.echo(f"{'':8}   -> {finding.remedy}")
    levels = Counter(finding.level for finding in found)
    if as_json:
        told = [
            {
                "level": finding.level.value,
                "about": finding.about,
                "text": finding.text,
                "remedy": finding.remedy,
            }
            for finding in found
        ]
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        problems, warnings = levels[Level.PROBLEM], levels[Level.WARNING]
        typer.echo(f"{many(problems, 'problem')}, {many(warnings, 'warning')}")
    return ExitCode.NO if levels[Level.PROBLEM] else ExitCode.OK
