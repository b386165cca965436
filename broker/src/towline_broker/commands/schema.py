"""``towline-broker schema``: the tables of SQL stores, while no broker uses them."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from towline_broker.commands.helping import examples
from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.drivers.urls import shown_url
from towline_broker.server.configuration.sources import load_settings
from towline_broker.server.exits import ConfigError, ExitCode

if TYPE_CHECKING:
    from towline_broker.drivers.sql.administration import Tables

app = typer.Typer(
    name="schema",
    help="The tables of SQL stores: their version, and bringing them up to date.",
    short_help="Look at, and upgrade, the tables of SQL stores.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EXIT_CODES = """\b
Exit codes:
  0    done
  66   a store was refused: its url or password is wrong, it is not ours, it
       needs a newer broker, or a broker uses it
  69   a store cannot be reached
  78   a setting is wrong
"""

Store = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="The store. [default: all that the settings name]"),
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML, YAML or JSON.")
]


@app.command(
    epilog=examples(
        "towline-broker schema current",
        "towline-broker schema current --store postgresql://queue@db/jobs",
        then=EXIT_CODES,
    )
)
def current(store: Store = None, config: Config = None) -> None:
    """Say which version the tables have. Changes nothing; brokers may be at work."""

    async def tell(tables: "Tables") -> str:
        return _described(await tables.version())

    _each(store, config, tell)


@app.command(
    epilog=examples(
        "towline-broker schema upgrade",
        "towline-broker schema upgrade --store sqlite:///jobs.db",
        then=EXIT_CODES,
    )
)
def upgrade(store: Store = None, config: Config = None) -> None:
    """Bring the tables up to date, or make them. Stop the brokers that use the store before."""

    async def bring_up(tables: "Tables") -> str:
        before = await tables.version()
        if before == _needed():
            return f"has schema version {before} already"
        await tables.upgrade()
        if before is None:
            return f"made, with schema version {_needed()}"
        return f"upgraded from schema version {before} to {_needed()}"

    _each(store, config, bring_up)


@app.command(
    epilog=examples(
        "towline-broker schema sql --store mysql://queue@db/jobs > upgrade.sql", then=EXIT_CODES
    ),
    short_help="Print the SQL that upgrade would run.",
)
def sql(store: Store = None, config: Config = None) -> None:
    """Print the SQL that upgrade would run, for an administrator to run in its place."""

    async def script(tables: "Tables") -> str:
        version = await tables.version()
        if version == _needed():
            return "up to date: there is nothing to run"
        return f"{_described(version)}; what brings it up to date:\n\n{await tables.script()}"

    _each(store, config, script, prefix="-- ")


def _needed() -> int:
    """The version that this broker needs."""
    from towline_broker.drivers.sql import versions

    return versions.CURRENT


def _described(version: int | None) -> str:
    needed = _needed()
    if version is None:
        return "has no tables yet"
    if version == needed:
        return f"has schema version {version}, as this broker needs it"
    if version > needed:
        return f"has schema version {version}, newer than the {needed} of this broker"
    return f"has schema version {version}, and this broker needs {needed}: upgrade it"


def _each(
    store: str | None,
    config: Path | None,
    do: Callable[["Tables"], Coroutine[Any, Any, str]],
    *,
    prefix: str = "",
) -> None:
    """Does it for every store, and tells what came of it."""
    # The libraries of databases take a while to load, and most commands need none.
    from towline_broker.drivers.sql.administration import tables_of

    for url in _stores(store, config):
        shown = shown_url(url)
        try:
            tables = tables_of(url)
            if tables is None:
                typer.echo(f"{prefix}{shown} is no SQL store: it has no tables")
                continue
            answer = asyncio.run(do(tables))
        except (StoreRefused, StoreUnavailable) as error:
            typer.echo(f"towline-broker: {error}", err=True)
            refused = isinstance(error, StoreRefused)
            raise typer.Exit(ExitCode.STORE_REFUSED if refused else ExitCode.UNAVAILABLE) from None
        typer.echo(f"{prefix}{shown} {answer}")


def _stores(store: str | None, config: Path | None) -> list[str]:
    if store is not None:
        return [store]
    try:
        return list(load_settings({}, config).all_stores.values())
    except ConfigError as error:
        typer.echo(f"towline-broker: {error}", err=True)
        raise typer.Exit(ExitCode.CONFIG) from None
