"""Lists of jobs, fetched page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from towline.cli import output
from towline.cli.formats import at, local
from towline.cli.job_views import (
    failure_text,
    job_json,
    reason_name,
    state_name,
    type_and_name,
)
from towline.cli.output import Column, number
from towline.v1 import job_pb2 as pb

_PAGE = 500


@dataclass(frozen=True)
class Look:
    """What a list shows of each job, and what is said when there is none."""

    columns: Sequence[Column]
    row: Callable[[pb.JobInfo], list[str]]
    empty: str


def _job_row(info: pb.JobInfo) -> list[str]:
    return [
        info.job.id,
        info.job.queue,
        type_and_name(info),
        state_name(info.state),
        str(info.attempt),
        local(at(info, "enqueued_at")),
        failure_text(info),
    ]


def _dead_row(info: pb.JobInfo) -> list[str]:
    return [
        info.job.id,
        info.job.queue,
        type_and_name(info),
        reason_name(info.dead_reason),
        str(info.attempt),
        local(at(info, "finished_at")),
        failure_text(info),
    ]


JOB_LIST = Look(
    columns=(
        Column("ID"),
        Column("QUEUE"),
        Column("TYPE"),
        Column("STATE"),
        number("ATTEMPT"),
        Column("PUSHED"),
        Column("LAST FAILURE", shrinks=True),
    ),
    row=_job_row,
    empty="no jobs",
)

DEAD_LIST = Look(
    columns=(
        Column("ID"),
        Column("QUEUE"),
        Column("TYPE"),
        Column("REASON", style="red"),
        number("ATTEMPTS"),
        Column("DIED"),
        Column("LAST FAILURE", shrinks=True),
    ),
    row=_dead_row,
    empty="no dead jobs",
)


class Page(Protocol):
    """An answer that holds some jobs, and where the next ones begin."""

    @property
    def jobs(self) -> Sequence[pb.JobInfo]: ...

    @property
    def next_page_token(self) -> str: ...


Fetch = Callable[[int, str], Page]
"""Returns the page of at most so many jobs that begins at the token."""


class _Walk:
    """The first ``limit`` jobs of a list; ``more`` says afterwards whether there are others."""

    def __init__(self, fetch: Fetch, limit: int) -> None:
        self._fetch = fetch
        self._limit = limit
        self.more = False

    def __iter__(self) -> Iterator[pb.JobInfo]:
        left, token = self._limit, ""
        while True:
            # One more than wanted tells whether there are more.
            page = self._fetch(min(_PAGE, left + 1), token)
            for info in page.jobs:
                if left == 0:
                    self.more = True
                    return
                yield info
                left -= 1
            token = page.next_page_token
            if not token:
                return


def print_jobs(fetch: Fetch, limit: int, look: Look, *, as_json: bool) -> None:
    """Print the first ``limit`` jobs as a table or as JSON lines."""
    walk = _Walk(fetch, limit)
    if as_json:
        for info in walk:
            output.line(job_json(info))
    elif rows := [look.row(info) for info in walk]:
        output.table(look.columns, rows)
    else:
        output.note(look.empty)
    if walk.more:
        output.note(f"the first {limit} are shown; there are more: raise --limit")
