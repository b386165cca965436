"""``towline-broker doctor``: whether a broker would do well here, and what to do."""

import asyncio
import json
from collections import Counter
from typing import Annotated

import typer

from towline_broker.commands.settings_options import with_settings
from towline_broker.server.configuration.sources import Loaded, Sources
from towline_broker.server.exits import ConfigError, ExitCode

HELP = """Look at the settings, the stores, the disk, certificates, tokens, the clock and the
addresses of a broker, and say what is wrong and what to do about it.

Takes the same options as serve, and reads the same file and variables. A broker may be running
meanwhile. Jobs are left alone; "towline-broker check" reads a whole store.

\b
Exit codes:
  0    a broker would do well, though there may be warnings
  1    there is a problem
  2    wrong use
  78   a setting is wrong
"""

EXAMPLES = """\b
Examples:
  towline-broker doctor
  towline-broker doctor --config /etc/towline/broker.toml --json
"""


def register(app: typer.Typer) -> None:
    summary = "Say whether a broker would do well here."
    app.command("doctor", help=HELP, short_help=summary, epilog=EXAMPLES)(command)


@with_settings
def command(
    sources: Sources,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    try:
        loaded = sources.load()
    except ConfigError as error:
        typer.echo(f"towline-broker: {error}", err=True)
        raise typer.Exit(ExitCode.CONFIG) from None
    raise typer.Exit(asyncio.run(_examine(loaded, as_json)))


async def _examine(loaded: Loaded, as_json: bool) -> int:
    # Rooms of the whole broker, which take a while to load.
    from towline_broker.doctor.examination import examine
    from towline_broker.doctor.findings import Level

    found = []
    async for finding in examine(loaded):
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
        typer.echo(f"{_number(problems, 'problem')}, {_number(warnings, 'warning')}")
    return 1 if levels[Level.PROBLEM] else 0


def _number(count: int, thing: str) -> str:
    return f"{count or 'no'} {thing}{'' if count == 1 else 's'}"
