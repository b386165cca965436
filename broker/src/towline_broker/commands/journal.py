"""``towline-broker journal``: looks at the journal of a file store, whether it is in use or not."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.message import DecodeError

from towline.v1.job_pb2 import Job
from towline_broker.commands.helping import examples, with_codes
from towline_broker.commands.telling import fail
from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.domain.time import Micros, to_seconds
from towline_broker.domain.words import many
from towline_broker.drivers.file import checking
from towline_broker.drivers.file.reading import Reader
from towline_broker.drivers.file.segments import numbers_in
from towline_broker.drivers.file.telling import told
from towline_broker.server.exits import Codes, ExitCode

app = typer.Typer(
    name="journal",
    help="Look at the journal of a file store. Changes nothing; the store may be in use.",
    short_help="Look at the journal of a file store.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("towline-broker journal check /var/lib/towline/jobs"),
)

CHECK_HELP = """Read a journal from its oldest segment to its tail, and say what is there.
"""

CHECK_CODES: Codes = {
    ExitCode.OK: "sound; a frame that a crash cut off at the very end is no damage",
    ExitCode.NO: "damaged: segment and offset are named",
    ExitCode.USAGE: "wrong use, or there is no journal",
    ExitCode.INTERRUPTED: "",
}

CAT_HELP = """Print what a journal records: a line of JSON for each call, oldest first.

A line tells how jobs, settle memories, unique keys, totals and queues stood after the call, not
what was called. Bytes are printed as text where they are UTF-8, else in base64.
"""

CAT_CODES: Codes = {
    ExitCode.OK: "read to its end",
    ExitCode.NO: "damaged: what is before the damage was printed",
    ExitCode.USAGE: "wrong use, or there is no journal",
    ExitCode.INTERRUPTED: "",
}

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Where the store is.")]


@app.command(
    help=with_codes(CHECK_HELP, CHECK_CODES),
    short_help="Read a journal, and say what is there.",
    epilog=examples("towline-broker journal check /var/lib/towline/jobs"),
)
def check(directory: Directory) -> None:
    _need_journal(directory)
    try:
        found = checking.read(directory)
    except (StoreRefused, StoreUnavailable, OSError) as error:
        typer.echo(str(error))
        raise typer.Exit(ExitCode.NO) from None
    reader = found.reader
    if reader.tail is None:
        return
    number, offset = reader.tail.header.number, reader.tail.offset
    typer.echo(
        f"sound: segments {reader.oldest} to {number}, {many(found.frames, 'frame')} with "
        f"{many(found.records, 'record')}, the last one of {_moment(found.clock)}; the journal "
        f"goes on at offset {offset} of segment {number}"
    )
    if reader.tail.torn:
        typer.echo("a frame begins there and is not finished: opening the store cuts it off")


@app.command(
    help=with_codes(CAT_HELP, CAT_CODES),
    short_help="Print what a journal records as lines of JSON.",
    epilog=examples(
        "towline-broker journal cat jobs | jq .queue",
        "towline-broker journal cat jobs --from 5210 --no-payload",
    ),
)
def cat(
    directory: Directory,
    since: Annotated[
        int, typer.Option("--from", metavar="SEQ", help="Begin with the frame of this sequence.")
    ] = 0,
    payload: Annotated[
        bool,
        typer.Option(
            "--payload/--no-payload",
            help="Print payloads, results and checkpoints, or only their sizes.",
        ),
    ] = True,
) -> None:
    _need_journal(directory)
    tell = _tell_bytes if payload else _tell_size
    try:
        for header, frame, records in Reader(directory).records():
            place = {"segment": header.number, "offset": frame.offset, "sequence": frame.sequence}
            if frame.sequence >= since:
                for record in records:
                    typer.echo(json.dumps(place | told(record, tell), ensure_ascii=False))
    except (StoreRefused, OSError) as error:
        fail(str(error), ExitCode.NO)


def _need_journal(directory: Path) -> None:
    if not directory.is_dir() or not numbers_in(directory):
        fail(f"there is no journal in {directory}", ExitCode.USAGE)


def _moment(micros: Micros) -> str:
    return datetime.fromtimestamp(to_seconds(micros), UTC).isoformat(timespec="seconds")


def _tell_bytes(value: bytes, is_envelope: bool) -> Any:
    if not is_envelope:
        return _text_or_base64(value)
    try:
        job = Job.FromString(value)
    except DecodeError:
        return _text_or_base64(value)
    parts = {
        "payload": _text_or_base64(job.payload),
        "content_type": job.content_type,
        "headers": dict(job.headers),
    }
    return {name: part for name, part in parts.items() if part}


def _text_or_base64(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


def _tell_size(value: bytes, _: bool) -> Any:
    return {"bytes": len(value)}
