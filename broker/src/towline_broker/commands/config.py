"""``towline-broker config``: the settings that ``serve`` would start with, without starting it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import typer

from towline_broker.commands import options
from towline_broker.commands.helping import examples, with_codes
from towline_broker.commands.loading import loaded
from towline_broker.commands.settings_options import with_settings
from towline_broker.server.configuration.explaining import dotted
from towline_broker.server.configuration.sources import Loaded, Sources
from towline_broker.server.exits import Codes, ConfigError, ExitCode, WrongSettings

app = typer.Typer(
    name="config",
    help="The settings: whether they are right, what they come to, and their schema.",
    short_help="Check and show settings.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("towline-broker config check", "towline-broker config show"),
)

CHECK_HELP = """Say whether serve could start with these settings, and where each comes from.

Takes the same options as serve, and reads the same file and variables. Starts nothing and opens no
store. Every wrong value is named, with its place and what was expected; so is what is allowed, but
surely not meant.
"""

SHOW_HELP = """Print the settings that serve would start with, and where each comes from.

Takes the same options as serve. Passwords are left out. As TOML and YAML the text could be a file
of settings; as JSON the origins stand beside the settings.
"""

SCHEMA_HELP = """Print the JSON Schema of the file of settings, for editors: in TOML, YAML or JSON.

\b
What editors look for, in the first line of a file:
  TOML   #:schema ./towline-broker.schema.json
  YAML   # yaml-language-server: $schema=./towline-broker.schema.json
  JSON   "$schema": "./towline-broker.schema.json", within the braces
"""

CODES: Codes = {
    ExitCode.OK: "the settings are right, though there may be warnings",
    ExitCode.CONFIG: "",
}
SCHEMA_CODES: Codes = {ExitCode.OK: "printed"}

CHECK_EXAMPLES = examples(
    "towline-broker config check",
    "towline-broker config check --config /etc/towline/broker.toml --json",
)
SHOW_EXAMPLES = examples(
    "towline-broker config show",
    "towline-broker config show --store postgresql://queue@db/jobs --format yaml",
)
SCHEMA_EXAMPLES = examples("towline-broker config schema > towline-broker.schema.json")


class Format(StrEnum):
    toml = "toml"
    yaml = "yaml"
    json = "json"


@app.command(
    help=with_codes(CHECK_HELP, CODES),
    short_help="Say whether the settings are right.",
    epilog=CHECK_EXAMPLES,
)
@with_settings
def check(
    sources: Sources,
    as_json: options.Json = False,
) -> None:
    from towline_broker.server.checking import Findings, look_at

    origins: Mapping[str, Sequence[str]] = {}
    try:
        settings = sources.load()
    except ConfigError as error:
        mistakes = error.mistakes if isinstance(error, WrongSettings) else [str(error)]
        found = Findings(mistakes, ())
    else:
        found = asyncio.run(look_at(settings))
        origins = _origins(settings)
    if as_json:
        told = {
            "ok": not found.refusals,
            "sources": origins,
            "mistakes": found.refusals,
            "warnings": found.warnings,
        }
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _tell(found.refusals, found.warnings, origins)
    raise typer.Exit(ExitCode.CONFIG if found.refusals else ExitCode.OK)


@app.command(
    help=with_codes(SHOW_HELP, CODES),
    short_help="Print the settings that are in effect.",
    epilog=SHOW_EXAMPLES,
)
@with_settings
def show(
    sources: Sources,
    form: Annotated[
        Format, typer.Option("--format", help="The language of the file.")
    ] = Format.toml,
) -> None:
    from towline_broker.server.configuration.shown_settings import (
        to_json,
        to_toml,
        to_yaml,
        values_of,
    )

    found = loaded(sources)
    values = list(values_of(found.settings, found.merged.own_origin))
    write = {Format.toml: to_toml, Format.yaml: to_yaml, Format.json: to_json}[form]
    typer.echo(write(values), nl=False)


@app.command(
    help=with_codes(SCHEMA_HELP, SCHEMA_CODES),
    short_help="Print the JSON Schema of the settings.",
    epilog=SCHEMA_EXAMPLES,
)
def schema() -> None:
    from towline_broker.server.configuration.settings_schema import settings_schema

    typer.echo(json.dumps(settings_schema(), indent=2, ensure_ascii=False))


def _tell(
    mistakes: Sequence[str], warnings: Sequence[str], origins: Mapping[str, Sequence[str]]
) -> None:
    if mistakes:
        lines = "".join(f"\n  {mistake}" for mistake in mistakes)
        typer.echo(f"towline-broker: wrong settings:{lines}", err=True)
    else:
        typer.echo("ok")
        for label, places in origins.items():
            typer.echo(f"  {label}: {', '.join(places)}")
        typer.echo("  all else: defaults" if origins else "  all are defaults")
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def _origins(loaded: Loaded) -> dict[str, list[str]]:
    """What comes from where, but for defaults."""
    from towline_broker.server.configuration.shown_settings import each_value

    found: dict[str, list[str]] = {}
    for _, place, _ in each_value(loaded.settings):
        origin = loaded.merged.origins.get(place)
        if origin is not None:
            found.setdefault(origin.label.removesuffix(":"), []).append(dotted(place))
    return found
