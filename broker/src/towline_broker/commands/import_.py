"""``towline-broker import``: the jobs of a file into a store."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from towline_broker.archive import importing, reading, stores
from towline_broker.archive.importing import Choice, Imported, Plan, Unfit
from towline_broker.archive.reading import Archive, Contents
from towline_broker.commands import offline, options
from towline_broker.commands.chosen_store import ChosenStore, chosen_store
from towline_broker.commands.helping import examples, with_codes
from towline_broker.commands.telling import Progress, say
from towline_broker.domain.errors import Full
from towline_broker.domain.names import is_name
from towline_broker.domain.words import many
from towline_broker.drivers.interface import Capabilities
from towline_broker.drivers.registry import create_driver
from towline_broker.server.exits import Codes, ExitCode

HELP = """Store the jobs of a file that "towline-broker export" has written, in any kind of store.

The whole file is read first, and nothing is stored if a line is missing or damaged, or if the store
cannot keep something that the jobs need. Jobs keep their ids, their order and their past; a job
that is there already is passed over. One that was running is as one whose worker was lost: ready
again, with its attempt counted, or dead if that was the last.

Until all is there, workers get nothing from the queues of the file. If the import is cut off, the
same command goes on; each job is stored once. Brokers may be at work on a store that they share. A
sqlite: or file: store must not be in use.
"""

CODES: Codes = offline.CODES | {
    ExitCode.OK: "imported",
    ExitCode.NO: "not done, or not all of it: the store is full, or a queue is on its way "
    "elsewhere; the same command goes on",
    ExitCode.BAD_FILE: "the file is not whole, or none of an export",
    ExitCode.STORE_REFUSED: "the store was refused: it is not ours, a broker owns it, or it cannot "
    "keep these jobs",
    ExitCode.UNAVAILABLE: "the store cannot be reached",
    ExitCode.NOT_WRITTEN: "the file cannot be read",
}

EXAMPLES = examples(
    "towline-broker import --store postgresql://queue@db/jobs jobs.jsonl",
    "towline-broker import --store sqlite:///new.db --dry-run jobs.jsonl",
    "towline-broker import --store file:///jobs --rename emails=mail jobs.jsonl",
)

WAY_OUT = "; stop it before"


def register(app: typer.Typer) -> None:
    summary = "Store the jobs of a file that was exported."
    app.command("import", help=with_codes(HELP, CODES), short_help=summary, epilog=EXAMPLES)(
        command
    )


def command(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="What to import; - is standard input.")
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            *("--queue", "-q"),
            metavar="PATTERN",
            help="Only queues of this name in the file, in which * stands for any text. Can be "
            "repeated.",
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OLD=NEW", help="Another name for a queue of the file. Can be repeated."
        ),
    ] = None,
    abandon: Annotated[
        bool,
        typer.Option(
            "--abandon",
            help="Open the queues that an import which was cut off has left, with what they hold.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file and the store; change nothing.")
    ] = False,
    store: options.Store = None,
    config: options.Config = None,
) -> None:
    if abandon != (file is None):
        raise typer.BadParameter("give one of FILE and --abandon")
    chosen = chosen_store(store, config)
    if file is None:
        names = offline.run(chosen, _abandon(chosen.url))
        say(f"opened {', '.join(names)}" if names else "no queue waits for an import")
        return
    choice = Choice(queue or (), _renamed(rename or []))
    began = time.monotonic()
    with (
        offline.errors_told(chosen),
        reading.opened(None if file == "-" else Path(file), sys.stdin.buffer) as archive,
    ):
        contents = archive.contents()
        if dry_run:
            offline.run(chosen, _check(chosen, archive, contents, choice))
            return
        done = offline.run(chosen, _import(chosen, archive, contents, choice))
    known = f"; {many(done.known, 'job')} known already, passed over" if done.known else ""
    took = time.monotonic() - began
    say(f"imported {many(done.stored, 'job')} into {chosen.shown} in {took:.1f} s{known}")


def _renamed(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        old, _, new = text.partition("=")
        if not old or not is_name(new):
            raise typer.BadParameter(
                f"{text!r} is not OLD=NEW, the names of two queues", param_hint="'--rename'"
            )
        found[old] = new
    return found


async def _import(
    chosen: ChosenStore, archive: Archive, contents: Contents, choice: Choice
) -> Imported:
    stores.place_of(chosen.url)
    async with stores.opened(chosen.url, way_out=WAY_OUT) as store:
        plan = _plan(archive, contents, choice, store.driver.capabilities)
        _refuse_unfit(plan, store.driver.capabilities)
        _tell(plan, contents, chosen)
        progress = Progress("brought", plan.jobs.total())
        try:
            return await importing.import_into(store, archive, plan, choice, progress)
        except Full:
            say("what came until now is stored; make room, and give the same command again")
            raise


async def _check(chosen: ChosenStore, archive: Archive, contents: Contents, choice: Choice) -> None:
    """A store that is not there yet is not made for it."""
    url = chosen.url
    place = stores.place_of(url)
    if place is not None and not place.exists():
        capabilities = create_driver(url).capabilities
        plan = _plan(archive, contents, choice, capabilities)
    else:
        async with stores.opened(url, way_out=WAY_OUT) as store:
            capabilities = store.driver.capabilities
            plan = _plan(archive, contents, choice, capabilities)
            await importing.refuse_moving(store.driver, plan)
    _refuse_unfit(plan, capabilities)
    _tell(plan, contents, chosen)
    for queue, count in sorted(plan.jobs.items()):
        typer.echo(f"{queue}: {many(count, 'job')}" + (", paused" * (queue in plan.paused)))
    say("nothing was changed: a dry run")


async def _abandon(url: str) -> list[str]:
    await stores.need(url)
    async with stores.opened(url, way_out=WAY_OUT) as store:
        return await importing.abandon(store.driver)


def _plan(archive: Archive, contents: Contents, choice: Choice, capabilities: Capabilities) -> Plan:
    for name in choice.renamed:
        if name not in {queue.name for queue in contents.queues}:
            raise typer.BadParameter(f"the file has no queue {name!r}", param_hint="'--rename'")
    return importing.plan(archive, contents, choice, capabilities)


def _refuse_unfit(plan: Plan, capabilities: Capabilities) -> None:
    try:
        importing.refuse_unfit(plan, capabilities)
    except Unfit as unfit:
        for what in unfit.found:
            say(f"towline-broker: {what}")
        say("nothing was changed")
        raise typer.Exit(ExitCode.STORE_REFUSED) from None


def _tell(plan: Plan, contents: Contents, chosen: ChosenStore) -> None:
    header = contents.header
    say(
        f"an export of a {header.store} store by release {header.made_by}: "
        f"{many(plan.jobs.total(), 'job')} for {many(len(plan.jobs), 'queue')}; into {chosen.shown}"
    )
    for queue in contents.queues:
        if queue.moving_to:
            what = "had moved" if queue.moved else "was on its way"
            say(
                f"queue {queue.name} {what} to store {queue.moving_to}: what had arrived there is "
                "in an export of that store"
            )
