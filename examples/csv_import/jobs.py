"""Importing a file of customers: bad rows are put aside, and a retry goes on where one stopped."""

import csv
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

from towline import Job, Reject, current_job

from .customers import COLUMNS, BadRow, Customer, save

BATCH = 200


@dataclass
class Done:
    """How far the import has come: its checkpoint, and in the end its result."""

    rows: int = 0
    imported: int = 0
    rejected: int = 0
    rejected_size: int = 0


class ImportCustomers(Job):
    queue = "imports"
    max_attempts = 5
    backoff = (1, 10, 60)
    dead_on = (FileNotFoundError, UnicodeDecodeError)
    retention = 24 * 3600
    file: Path
    database: Path

    def unique_key(self) -> str:
        return str(self.file)  # a file is imported by one job at a time

    @property
    def rejected_file(self) -> Path:
        return self.file.with_suffix(".rejected.csv")

    def handle(self) -> Done:
        done = Done(**current_job().last_checkpoint or {})
        with (
            self.file.open(encoding="utf-8-sig", newline="") as source,
            self.rejected_file.open("a", encoding="utf-8", newline="") as rejected,
            closing(sqlite3.connect(self.database, timeout=60)) as database,
        ):
            rejected.truncate(done.rejected_size)  # what was written after the last checkpoint
            rows = islice(numbered_rows(source), done.rows, None)
            while batch := list(islice(rows, BATCH)):
                self.import_batch(batch, database, rejected, done)
                if current_job().cancelled:  # stopping, timed out, cancelled: no outcome counts
                    break
                current_job().checkpoint(asdict(done))
                current_job().progress(read_share(source), f"{done.rows} rows")
        return done

    def import_batch(
        self,
        batch: list[tuple[int, list[str]]],
        database: sqlite3.Connection,
        rejected: TextIO,
        done: Done,
    ) -> None:
        """First the rows, then the checkpoint: a crash in between repeats a batch, and a customer
        who is saved twice is still one customer."""
        good, bad = sort_out(batch)
        with database:
            save(database, good)
        csv.writer(rejected).writerows(bad)
        rejected.flush()
        done.rows += len(batch)
        done.imported += len(good)
        done.rejected += len(bad)
        done.rejected_size = os.fstat(rejected.fileno()).st_size


def numbered_rows(source: TextIO) -> Iterator[tuple[int, list[str]]]:
    """The rows below the heading, each with its line in the file."""
    reader = csv.reader(source, strict=True)
    try:
        heading = next(reader, [])
        if tuple(heading) != COLUMNS:
            raise Reject(f"expected the columns {', '.join(COLUMNS)}, got {', '.join(heading)}")
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise Reject(f"line {reader.line_num} is no CSV: {error}") from error


def sort_out(batch: Iterable[tuple[int, list[str]]]) -> tuple[list[Customer], list[list[str]]]:
    """Customers, and for each row that is none its line, what is wrong with it, and itself."""
    good, bad = [], []
    for line, row in batch:
        try:
            good.append(Customer.of(row))
        except BadRow as error:
            bad.append([str(line), str(error), *row])
    return good, bad


def read_share(source: TextIO) -> float:
    """How much of the file has been read: near enough, since it is read in blocks."""
    size = os.fstat(source.fileno()).st_size
    return min(1.0, source.buffer.tell() / size)
