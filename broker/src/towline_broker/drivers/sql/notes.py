"""What became of earlier attempts of a job: its last failure and its last progress."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from towline_broker.domain.jobs import Failure, Progress
from towline_broker.drivers.sql import schema
from towline_broker.drivers.sql.transaction import Reader, Row, Transaction

_COLUMNS = (
    "seq, failure_type, failure_message, failure_trace, failure_at, fraction, message, checkpoint"
)
_NOTES = f"SELECT {_COLUMNS} FROM towline_notes WHERE seq IN (?*)"  # noqa: S608 - constants


class Notes(NamedTuple):
    failure: Failure | None = None
    progress: Progress | None = None


NOTHING = Notes()


async def notes_of(reader: Reader, seqs: Iterable[int]) -> dict[int, Notes]:
    """The notes of those jobs that have any."""
    return {row[0]: _notes(row) for row in await reader.rows_of(_NOTES, seqs)}


async def write_notes(transaction: Transaction, notes: Mapping[int, Notes]) -> None:
    """Puts the notes of jobs in place of what was noted. Their rows must be marked ``noted``."""
    await transaction.put_many(schema.notes, [_row(seq, note) for seq, note in notes.items()])


def _notes(row: Row) -> Notes:
    _, type_, message, trace, at, fraction, progress_message, checkpoint = row
    return Notes(
        None if type_ is None else Failure(type_, message, trace, at),
        None if fraction is None else Progress(fraction, progress_message, checkpoint),
    )


def _row(seq: int, notes: Notes) -> tuple[object, ...]:
    failure, progress = notes
    return (
        seq,
        *((failure.type, failure.message, failure.trace, failure.at) if failure else (None,) * 4),
        *((progress.fraction, progress.message, progress.checkpoint) if progress else (None,) * 3),
    )
