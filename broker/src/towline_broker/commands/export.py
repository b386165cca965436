"""``towline-broker export``: the jobs of a store in a file."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from towline_broker.archive import stores
from towline_broker.archive.exporting import Exported, export
from towline_broker.commands import offline
from towline_broker.drivers.disk import sync

HELP = """Write the jobs of a store into a file, as lines of JSON, to be imported into any store.

Every job is in it, waiting, running, dead or kept after its end, with all that the store knows of
it. The file appears when it is whole, and its last line holds a checksum.

Brokers may be at work on a store that they share: each job that was there before and is not gone
afterwards is in the file once, as it stood at some moment in between. A sqlite: or file: store
must not be in use: stop its broker, or take a backup and export that.

\b
Exit codes:
  0    written
  2    wrong use
  66   the store was refused: it is not there or not ours, a broker owns it,
       or its kind cannot be exported
  69   the store cannot be reached
  73   the file cannot be written, or is there already
  130  interrupted
"""

EXAMPLES = """\b
Examples:
  towline-broker export --store sqlite:///jobs.db jobs.jsonl
  towline-broker export --store file:///jobs --queue 'emails.*' emails.jsonl
  towline-broker export --store redis://cache - | gzip > jobs.gz
"""

WAY_OUT = "; stop it, or copy the store while it runs (towline-broker backup) and export the copy"


def register(app: typer.Typer) -> None:
    summary = "Write the jobs of a store into a file."
    app.command("export", help=HELP, short_help=summary, epilog=EXAMPLES)(command)


def command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - is standard output.")],
    store: Annotated[str, typer.Option(metavar="URL", help="The store.")],
    queue: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Only queues of this name, in which * stands for any text. May be repeated.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over a file that is there.")
    ] = False,
) -> None:
    path = None if file == "-" else Path(file)
    if path is not None and path.exists() and not force:
        offline.say(f"towline-broker: {path} is there already; name another file, or give --force")
        raise typer.Exit(offline.Exit.NOT_WRITTEN)
    began = time.monotonic()
    done = offline.run(_export(store, path, queue or []))
    states = ", ".join(
        f"{count:,} {state.name.lower()}" for state, count in sorted(done.states.items())
    )
    took = time.monotonic() - began
    offline.say(
        f"exported {offline.jobs(done.jobs)} of {offline.queues(done.queues)} in {took:.1f} s"
        + (f": {states}" if states else "")
    )


async def _export(url: str, path: Path | None, patterns: list[str]) -> Exported:
    await stores.need(url)
    async with stores.opened(url, way_out=WAY_OUT) as store:
        with _whole_or_not_at_all(path) as out:
            folder = None if path is None else path.parent
            return await export(store, out, patterns, folder, offline.Progress("read"))


@contextmanager
def _whole_or_not_at_all(path: Path | None) -> Iterator[BinaryIO]:
    """The file gets its name once all of it is on the disk."""
    if path is None:
        yield sys.stdout.buffer
        return
    draft = path.with_name(f"{path.name}.part")
    try:
        with _private(draft) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)
        sync(path.resolve().parent)
    finally:
        draft.unlink(missing_ok=True)


def _private(path: Path) -> BinaryIO:
    """Payloads are nobody else's business."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")
