"""``towline-broker import``: the jobs of a file into a store."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from towline_broker.archive import importing, reading, stores
from towline_broker.archive.importing import Choice, Imported, Plan, Unfit
from towline_broker.archive.reading import Archive, Contents
from towline_broker.commands import offline
from towline_broker.domain.errors import Full
from towline_broker.domain.names import is_name
from towline_broker.drivers.interface import Capabilities
from towline_broker.drivers.registry import create_driver

HELP = """Store the jobs of a file that "towline-broker export" has written, in any kind of store.

The whole file is read first, and nothing is stored if a line is missing or damaged, or if the store
cannot keep something that the jobs need. Jobs keep their ids, their order and their past; a job
that is there already is passed over. One that was running is as one whose worker was lost: ready
again, with its attempt counted, or dead if that was the last.

Until all is there, workers get nothing from the queues of the file. If the import is cut off, the
same command goes on; each job is stored once. Brokers may be at work on a store that they share. A
sqlite: or file: store must not be in use.

\b
Exit codes:
  0    imported
  1    not done, or not all of it: the store is full, or a queue is on its way
       elsewhere; the same command goes on
  2    wrong use
  65   the file is not whole, or none of an export
  66   the store was refused: it is not ours, a broker owns it, or it cannot
       keep these jobs
  69   the store cannot be reached
  73   the file cannot be read
  130  interrupted
"""

EXAMPLES = """\b
Examples:
  towline-broker import --store postgresql://queue@db/jobs jobs.jsonl
  towline-broker import --store sqlite:///new.db --dry-run jobs.jsonl
  towline-broker import --store file:///jobs --rename emails=mail jobs.jsonl
"""

WAY_OUT = "; stop it before"


def register(app: typer.Typer) -> None:
    summary = "Store the jobs of a file that was exported."
    app.command("import", help=HELP, short_help=summary, epilog=EXAMPLES)(command)


def command(
    store: Annotated[str, typer.Option(metavar="URL", help="The store.")],
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Where from; - is standard input.")
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Only queues of this name in the file, in which * stands for any text. May be "
            "repeated.",
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OLD=NEW", help="Another name for a queue of the file. May be repeated."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file and the store, and change nothing.")
    ] = False,
    abandon: Annotated[
        bool,
        typer.Option(
            "--abandon",
            help="Open the queues that an import which was cut off has left, with what they hold.",
        ),
    ] = False,
) -> None:
    if abandon != (file is None):
        raise typer.BadParameter("give one of FILE and --abandon")
    if file is None:
        names = offline.run(_abandon(store))
        offline.say(f"opened {', '.join(names)}" if names else "no queue waits for an import")
        return
    choice = Choice(queue or (), _renamed(rename or []))
    began = time.monotonic()
    with (
        offline.errors_told(),
        reading.opened(None if file == "-" else Path(file), sys.stdin.buffer) as archive,
    ):
        contents = archive.contents()
        if dry_run:
            offline.run(_check(store, archive, contents, choice))
            return
        done = offline.run(_import(store, archive, contents, choice))
    known = f"; {offline.jobs(done.known)} known already, passed over" if done.known else ""
    took = time.monotonic() - began
    offline.say(f"imported {offline.jobs(done.stored)} in {took:.1f} s{known}")


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


async def _import(url: str, archive: Archive, contents: Contents, choice: Choice) -> Imported:
    stores.place_of(url)
    async with stores.opened(url, way_out=WAY_OUT) as store:
        plan = _plan(archive, contents, choice, store.driver.capabilities)
        _refuse_unfit(plan, store.driver.capabilities)
        _tell(plan, contents)
        progress = offline.Progress("brought", plan.jobs.total())
        try:
            return await importing.import_into(store, archive, plan, choice, progress)
        except Full:
            offline.say("what came until now is stored; make room, and give the same command again")
            raise


async def _check(url: str, archive: Archive, contents: Contents, choice: Choice) -> None:
    """A store that is not there yet is not made for it."""
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
    _tell(plan, contents)
    for queue, count in sorted(plan.jobs.items()):
        typer.echo(f"{queue}: {offline.jobs(count)}" + (", paused" * (queue in plan.paused)))
    offline.say("nothing was changed: a dry run")


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
            offline.say(f"towline-broker: {what}")
        offline.say("nothing was changed")
        raise typer.Exit(offline.Exit.REFUSED) from None


def _tell(plan: Plan, contents: Contents) -> None:
    header = contents.header
    offline.say(
        f"an export of a {header.store} store by release {header.made_by}: "
        f"{offline.jobs(plan.jobs.total())} for {offline.queues(len(plan.jobs))}"
    )
    for queue in contents.queues:
        if queue.moving_to:
            what = "had moved" if queue.moved else "was on its way"
            offline.say(
                f"queue {queue.name} {what} to store {queue.moving_to}: what had arrived there is "
                "in an export of that store"
            )
