"""``towline-broker export``: the jobs of a store in a file."""

import errno
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
from towline_broker.commands import offline, options
from towline_broker.commands.chosen_store import ChosenStore, chosen_store
from towline_broker.commands.helping import examples, with_codes
from towline_broker.commands.telling import Progress, fail, say
from towline_broker.domain.words import many
from towline_broker.drivers.disk import sync
from towline_broker.server.exits import Codes, ExitCode

HELP = """Write the jobs of a store into a file, as lines of JSON, to be imported into any store.

Every job is in it, waiting, running, dead or kept after its end, with all that the store knows of
it. The file appears when it is whole, and its last line holds a checksum.

Brokers may be at work on a store that they share: each job that was there before and is not gone
afterwards is in the file once, as it stood at some moment in between. A sqlite: or file: store
must not be in use: stop its broker, or take a backup and export that.
"""

CODES: Codes = offline.CODES | {
    ExitCode.OK: "written",
    ExitCode.STORE_REFUSED: "the store was refused: it is not there or not ours, a broker owns it, "
    "or its kind cannot be exported",
    ExitCode.UNAVAILABLE: "the store cannot be reached",
    ExitCode.NOT_WRITTEN: "the file cannot be written, or is there already",
}

EXAMPLES = examples(
    "towline-broker export --config /etc/towline/broker.toml jobs.jsonl",
    "towline-broker export --store file:///jobs --queue 'emails.*' emails.jsonl",
    "towline-broker export --store redis://cache - | gzip > jobs.gz",
)

WAY_OUT = "; stop it, or copy the store while it runs (towline-broker backup) and export the copy"


def register(app: typer.Typer) -> None:
    summary = "Write the jobs of a store into a file."
    app.command("export", help=with_codes(HELP, CODES), short_help=summary, epilog=EXAMPLES)(
        command
    )


def command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - is standard output.")],
    queue: Annotated[
        list[str] | None,
        typer.Option(
            *("--queue", "-q"),
            metavar="PATTERN",
            help="Only queues of this name, in which * stands for any text. Can be repeated.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over a file that is there.")
    ] = False,
    store: options.Store = None,
    config: options.Config = None,
) -> None:
    chosen = chosen_store(store, config)
    path = None if file == "-" else Path(file)
    if path is not None and path.exists() and not force:
        fail(f"{path} is there already; name another, or give --force", ExitCode.NOT_WRITTEN)
    began = time.monotonic()
    done = offline.run(chosen, _export(chosen, path, queue or []))
    states = ", ".join(
        f"{count:,} {state.name.lower()}" for state, count in sorted(done.states.items())
    )
    took = time.monotonic() - began
    say(
        f"exported {many(done.jobs, 'job')} of {many(done.queues, 'queue')} from {chosen.shown} "
        f"in {took:.1f} s" + (f": {states}" if states else "")
    )


async def _export(chosen: ChosenStore, path: Path | None, patterns: list[str]) -> Exported:
    await stores.need(chosen.url)
    async with stores.opened(chosen.url, way_out=WAY_OUT) as store:
        with _whole_or_not_at_all(path) as out:
            folder = None if path is None else path.parent
            return await export(store, out, patterns, folder, Progress("read"))


@contextmanager
def _whole_or_not_at_all(path: Path | None) -> Iterator[BinaryIO]:
    """The file gets its name once all of it is on the disk."""
    if path is None:
        with _named("standard output"):
            # The interpreter has none for one that was closed before it began.
            if sys.stdout is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            yield sys.stdout.buffer
        return
    draft = path.with_name(f"{path.name}.part")
    try:
        with _named(path), _private(draft) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)
        sync(path.resolve().parent)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _named(what: Path | str) -> Iterator[None]:
    """Of what was written when there was no room, or nobody to read, the error itself says
    nothing."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(what)
        raise


def _private(path: Path) -> BinaryIO:
    """Payloads are nobody else's business."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")
