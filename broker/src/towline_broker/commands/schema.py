"""``towline-broker schema``: the tables of SQL stores, while no broker uses them."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from towline_broker.commands import offline, options
from towline_broker.commands.chosen_store import chosen_stores
from towline_broker.commands.helping import examples, with_codes
from towline_broker.server.exits import Codes, ExitCode

if TYPE_CHECKING:
    from towline_broker.drivers.sql.administration import Tables

app = typer.Typer(
    name="schema",
    help="The tables of SQL stores: their version, and bringing them up to date.",
    short_help="Look at, and upgrade, the tables of SQL stores.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("towline-broker schema current", "towline-broker schema upgrade"),
)

CURRENT_HELP = "Say which version the tables have. Changes nothing; brokers may be at work."
UPGRADE_HELP = (
    "Bring the tables up to date, or make them. Stop the brokers that use the store before."
)
SQL_HELP = "Print the SQL that upgrade would run, for an administrator to run in its place."

CODES: Codes = offline.CODES | {
    ExitCode.OK: "done",
    ExitCode.STORE_REFUSED: "a store was refused: its url or password is wrong, it is not ours, it "
    "needs a newer broker, or a broker uses it",
    ExitCode.UNAVAILABLE: "a store cannot be reached",
}

Store = Annotated[str | None, options.store("all that the settings name")]


@app.command(
    help=with_codes(CURRENT_HELP, CODES),
    short_help="Say which version the tables have.",
    epilog=examples(
        "towline-broker schema current",
        "towline-broker schema current --store postgresql://queue@db/jobs",
    ),
)
def current(store: Store = None, config: options.Config = None) -> None:
    async def tell(tables: "Tables") -> str:
        return _described(await tables.version())

    _each(store, config, tell)


@app.command(
    help=with_codes(UPGRADE_HELP, CODES),
    short_help="Bring the tables up to date, or make them.",
    epilog=examples(
        "towline-broker schema upgrade",
        "towline-broker schema upgrade --store sqlite:///jobs.db",
    ),
)
def upgrade(store: Store = None, config: options.Config = None) -> None:
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
    help=with_codes(SQL_HELP, CODES),
    short_help="Print the SQL that upgrade would run.",
    epilog=examples(
        "towline-broker schema sql > upgrade.sql",
        "towline-broker schema sql --store mysql://queue@db/jobs",
    ),
)
def sql(store: Store = None, config: options.Config = None) -> None:
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

    for chosen in chosen_stores(store, config):
        with offline.errors_told(chosen):
            tables = tables_of(chosen.url)
            if tables is None:
                typer.echo(f"{prefix}{chosen.shown} is no SQL store: it has no tables")
                continue
            answer = asyncio.run(do(tables))
        typer.echo(f"{prefix}{chosen.shown} {answer}")
