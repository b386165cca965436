"""What the broker says after everything has come to rest."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from tests.faults.harness.answers import final_job, numbers
from tests.faults.harness.diary import excused
from tests.faults.harness.history import Final
from tests.faults.harness.link import Link
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import dead_letter_service_pb2 as dead
from towline.v1 import queue_service_pb2 as queues
from towline.v1.job_pb2 import JobInfo, JobView

_PAGE = 500
_CALL_SECONDS = 30.0


def drained(link: Link, seconds: float) -> None:
    """Returns once no job is scheduled, ready or leased; fails if for so long none has ended, or
    after ten times as long.

    Raises grpc.RpcError for a status that no fault excuses.
    """
    begin = time.monotonic()
    deadline, last = begin + seconds, begin + 10 * seconds
    depth: admin.Depth | None = None
    least: int | None = None
    while True:
        try:
            depth = link.total().depth
            live = depth.scheduled + depth.ready + depth.leased
            if not live:
                return
            if least is None or live < least:
                least, deadline = live, min(last, time.monotonic() + seconds)
        except grpc.RpcError as error:
            if not excused(error.code()):  # it may just be coming back
                raise
        assert time.monotonic() < deadline, f"P1, Stats: not drained within {seconds:g} s: {depth}"
        time.sleep(0.1)


def final_state(link: Link, *, forgets_succeeded: bool) -> Final:
    total = link.total()
    return Final(
        jobs=[final_job(info) for info in _listed(link)],
        dead=[info.job.id for info in _dead(link)],
        totals=numbers(total.totals),
        depth=numbers(total.depth),
        forgets_succeeded=forgets_succeeded,
    )


def _listed(link: Link) -> Iterator[JobInfo]:
    request = queues.ListJobsRequest(page_size=_PAGE, view=JobView.JOB_VIEW_BASIC)
    return _pages(link.queue.ListJobs, request)


def _dead(link: Link) -> Iterator[JobInfo]:
    request = dead.ListDeadRequest(page_size=_PAGE, view=JobView.JOB_VIEW_BASIC)
    return _pages(link.dead.ListDead, request)


def _pages(
    ask: Callable[..., Any], request: queues.ListJobsRequest | dead.ListDeadRequest
) -> Iterator[JobInfo]:
    while True:
        page = ask(request, timeout=_CALL_SECONDS)
        yield from page.jobs
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
