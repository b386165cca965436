"""A file that was exported: held against its checksum before anything is made of it."""

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from towline_broker.archive import lines
from towline_broker.archive.jobs import NotAJob, check, state_of
from towline_broker.domain.errors import TowlineError
from towline_broker.domain.jobs import JobState

#: No line that a broker has written is longer.
MOST_LINE = 512 * 1024 * 1024


class BadArchive(TowlineError):
    """The file cannot be used. Nothing was changed."""


@dataclass(slots=True)
class Contents:
    """What stands in a file."""

    header: lines.Header
    #: Tells it from every other file.
    digest: str
    queues: list[lines.QueueLine] = field(default_factory=list)
    jobs: Counter[str] = field(default_factory=Counter)
    states: Counter[JobState] = field(default_factory=Counter)


class Archive:
    def __init__(self, file: BinaryIO, name: str) -> None:
        """``file`` can be read again and again; ``name`` is what it is called in messages."""
        self._file = file
        self._name = name

    def contents(self) -> Contents:
        """Reads all of it. Raises BadArchive unless every line is sound and none is missing."""
        found: Contents | None = None
        last: lines.Line | None = None
        for number, line in self._lines():
            if found is None:
                found = Contents(self._header(line), "")
            elif isinstance(line, lines.QueueLine):
                found.queues.append(line)
            elif isinstance(line, lines.JobLine):
                self._check_job(found, number, line)
            last = line
        if found is None:
            raise self._bad("it is empty")
        if not isinstance(last, lines.End):
            raise self._bad("its last line is missing: the file was cut short")
        found.digest = last.sha256
        if last.jobs != found.jobs.total():
            raise self._bad(
                f"it holds {found.jobs.total()} jobs, and its last line says {last.jobs}"
            )
        return found

    def jobs(self) -> Iterator[lines.JobLine]:
        """In their order; of a file that :meth:`contents` found sound."""
        for _, line in self._lines():
            if isinstance(line, lines.JobLine):
                yield line

    def _check_job(self, found: Contents, number: int, line: lines.JobLine) -> None:
        if not found.queues or found.queues[-1].name != line.queue:
            raise self._bad(f"line {number}: job {line.id} is not behind the line of its queue")
        try:
            check(line)
            found.states[state_of(line)] += 1
        except NotAJob as error:
            raise self._bad(f"line {number}: job {line.id}: {error}") from None
        found.jobs[line.queue] += 1

    def _header(self, line: lines.Line) -> lines.Header:
        if not isinstance(line, lines.Header):
            raise self._bad("its first line is not that of an export")
        if line.version != lines.VERSION:
            raise self._bad(
                f"it has format {line.version}, and this broker knows {lines.VERSION}; use the "
                f"release of Towline that wrote it ({line.made_by}), or a later one"
            )
        return line

    def _lines(self) -> Iterator[tuple[int, lines.Line]]:
        """The last one is held against what it sums up."""
        self._file.seek(0)
        total, ended = hashlib.sha256(), False
        number = 0
        while raw := self._file.readline(MOST_LINE):
            number += 1
            if ended:
                raise self._bad(f"line {number} stands behind the last one")
            if not raw.endswith(b"\n"):
                raise self._bad(f"line {number} is not whole: the file was cut short")
            line = self._decoded(raw, number)
            if isinstance(line, lines.End):
                ended = True
                if line.lines != number - 1 or line.sha256 != total.hexdigest():
                    raise self._bad(
                        "its checksum is another one than its last line says: it was damaged or "
                        "changed by hand; export it again (to leave jobs out, or to rename a "
                        "queue, there are options)"
                    )
            else:
                total.update(raw)
            yield number, line

    def _decoded(self, raw: bytes, number: int) -> lines.Line:
        try:
            return lines.decode(raw)
        except msgspec.MsgspecError as error:
            raise self._bad(f"line {number} is none of an export: {error}") from None

    def _bad(self, what: str) -> BadArchive:
        return BadArchive(f"{self._name}: {what}")


@contextmanager
def opened(path: Path | None, stdin: BinaryIO) -> Iterator[Archive]:
    """A file, or (None) what comes from ``stdin``, which is written to a temporary file first, so
    that nothing is made of it before all of it has come. Raises OSError."""
    if path is not None:
        with path.open("rb") as file:
            if not file.seekable():
                raise BadArchive(f"{path} is not a regular file; give - for what comes by a pipe")
            yield Archive(file, str(path))
        return
    with tempfile.TemporaryFile(prefix="towline-import-") as spooled:
        shutil.copyfileobj(stdin, spooled, 1024 * 1024)
        yield Archive(spooled, "standard input")
