"""A broker for one test, and what the test asks it and does with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Unpack

from towline.aio import AsyncClient
from towline.channel import ADDRESS_VARIABLE
from towline.client import Client
from towline.embedded import SCHEME, EmbeddedBroker, embedded_broker
from towline.named import clients
from towline.registry import Registry, default_registry
from towline.status import JobStatus, read_info, read_time
from towline.testing.dispatched import Dispatched, read_dispatched
from towline.testing.matching import Expectation, explain
from towline.testing.worker import InlineWorker
from towline.v1 import admin_service_pb2
from towline.v1.admin_service_pb2_grpc import AdminServiceStub
from towline.v1.job_pb2 import (
    JOB_STATE_DEAD,
    JOB_STATE_SCHEDULED,
    JOB_VIEW_FULL,
    JobInfo,
    JobState,
)
from towline.v1.queue_service_pb2 import ListJobsRequest
from towline.worker.handlers import HandlerOptions

CALL_TIMEOUT = 30.0
"""Seconds. The broker is in this process."""

PAGE = 1000


class Harness:
    """A broker of this process, emptied for a test. Made by ``towline.testing.broker``.

    url           what clients and workers in this process reach it by: "memory://name"
    address       host:port, for other processes on this machine
    client        a Client of it, and ``async_client`` an AsyncClient
    dispatched    every job that was stored since the test began, in that order
    dead          every dead job
    """

    def __init__(
        self, running: EmbeddedBroker, url: str, client: Client, registry: Registry
    ) -> None:
        self._broker = running
        self._registry = registry
        self.url = url
        self.address = running.address
        self.client = client
        self._admin = AdminServiceStub(client.channel)

    @cached_property
    def async_client(self) -> AsyncClient:
        return AsyncClient(self.url)

    # What was dispatched

    @property
    def dispatched(self) -> list[Dispatched]:
        return [
            read_dispatched(encoded, pushed_at, self._registry)
            for encoded, pushed_at in self._broker.pushed()
        ]

    def assert_dispatched(
        self,
        job: object,
        data: Mapping[str, Any] | None = None,
        /,
        *,
        times: int | None = None,
        **expected: Any,
    ) -> Dispatched:
        """Assert that a job was dispatched, and return it: the first that fits.

            towline.assert_dispatched(SendEmail, to="ada@example.org", delay=300)

        ``job`` is a Job class, a function with ``@job``, the name of a type, or a Job, which is
        then to be equal. ``expected`` are arguments of the job and options of its dispatch
        (queue, delay, priority, headers, unique_key, max_attempts, timeout, ...), as values or as
        functions that say whether a value will do; ``data`` has arguments whose names are taken.
        ``times``: so often exactly; else at least once.
        """
        expectation, found = self._find(job, data, expected)
        if not found or (times is not None and len(found) != times):
            raise AssertionError(explain(expectation, self.dispatched, len(found), times))
        return found[0]

    def assert_not_dispatched(
        self, job: object, data: Mapping[str, Any] | None = None, /, **expected: Any
    ) -> None:
        """Assert that no such job was dispatched; arguments as for ``assert_dispatched``."""
        expectation, found = self._find(job, data, expected)
        if found:
            raise AssertionError(explain(expectation, self.dispatched, len(found)))

    def assert_nothing_dispatched(self) -> None:
        dispatched = self.dispatched
        if dispatched:
            listed = "\n".join(f"  {each}" for each in dispatched)
            raise AssertionError(f"Nothing was to be dispatched. Dispatched were:\n{listed}")

    def _find(
        self, job: object, data: Mapping[str, Any] | None, expected: Mapping[str, Any]
    ) -> tuple[Expectation, list[Dispatched]]:
        expectation = Expectation(job, data, expected)
        return expectation, [
            each
            for each in self.dispatched
            if expectation.is_for(each) and not expectation.mismatches(each)
        ]

    # Running jobs

    def worker(
        self, queues: Iterable[str] | None = None, **options: Unpack[HandlerOptions]
    ) -> InlineWorker:
        """Return a worker that runs jobs here, one by one, when it is told to."""
        options.setdefault("registry", self._registry)
        return InlineWorker(self, queues, **options)

    # Time

    @property
    def now(self) -> datetime:
        """The time on the broker's clock, in UTC."""
        return self._broker.now()

    def travel(
        self,
        by: timedelta | None = None,
        /,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        """Set the broker's clock forward: ``towline.travel(minutes=5)``.

        Jobs whose delay or backoff is over by then are READY, those that have expired are dead,
        leases that ran out are taken back, before this returns; workers that wait are woken. The
        clock of the test, and of handlers, stays as it is. Raises ValueError for the past.
        """
        ahead = (by or timedelta(0)) + timedelta(
            days=days, hours=hours, minutes=minutes, seconds=seconds
        )
        if ahead < timedelta(0):
            raise ValueError(
                f"travel: {ahead.total_seconds():g} s is the past: a broker's clock only goes on"
            )
        self._broker.travel(ahead)

    def travel_to(self, moment: datetime) -> None:
        """Set the broker's clock to a moment ahead. Raises ValueError without a time zone."""
        if moment.utcoffset() is None:
            raise ValueError(f"travel_to: {moment!r} has no time zone, so it names no moment")
        self.travel(moment - self.now)

    def travel_to_next(self) -> bool:
        """Set the clock forward to when the next waiting job may start. False if none waits."""
        waiting = self._jobs(JOB_STATE_SCHEDULED)
        if not waiting:
            return False
        moment = min(read_time(info.available_at) for info in waiting)
        # Timestamps of jobs are exact, so that this moment is not before the job's own.
        self._broker.travel(max(timedelta(0), moment - self.now))
        return True

    # Figures

    def queues(self) -> list[str]:
        """The names of all queues that jobs were dispatched to."""
        return [queue.name for queue in self._list_queues()]

    def pending(self, queue: str | None = None) -> int:
        """How many jobs wait: READY or SCHEDULED, in one queue or in all."""
        return sum(
            each.depth.ready + each.depth.scheduled
            for each in self._list_queues()
            if queue in (None, each.name)
        )

    @property
    def dead(self) -> list[JobStatus]:
        return [read_info(info) for info in self._jobs(JOB_STATE_DEAD)]

    def _list_queues(self) -> Sequence[admin_service_pb2.QueueInfo]:
        request = admin_service_pb2.ListQueuesRequest()
        return self._admin.ListQueues(request, timeout=CALL_TIMEOUT).queues

    def _jobs(self, state: JobState.ValueType) -> list[JobInfo]:
        request = ListJobsRequest(states=[state], page_size=PAGE, view=JOB_VIEW_FULL)
        found: list[JobInfo] = []
        while True:
            page = self.client.queue_service.ListJobs(request, timeout=CALL_TIMEOUT)
            found += page.jobs
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


@contextlib.contextmanager
def broker(name: str = "", *, registry: Registry | None = None) -> Iterator[Harness]:
    """A broker in this process, empty, for the length of the block.

        with testing.broker() as towline:
            ...
            towline.assert_dispatched(SendEmail)

    It is that of ``memory://`` (or ``memory://name``), which clients of the code under test reach
    by that address. The default client and a Client without an address reach it, too:
    ``towline.clients`` and TOWLINE_URL say so meanwhile. ``registry`` has the types of jobs; by
    default those of all modules that are imported.

    Raises ConfigurationError when towline-broker is not installed.
    """
    url = f"{SCHEME}{name}"
    running = embedded_broker(name)
    running.reset()
    try:
        with _environment(url), clients.using(url) as client:
            yield Harness(running, url, client, default_registry if registry is None else registry)
    finally:
        running.reset()


@contextlib.contextmanager
def _environment(url: str) -> Iterator[None]:
    before = os.environ.get(ADDRESS_VARIABLE)
    os.environ[ADDRESS_VARIABLE] = url
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(ADDRESS_VARIABLE, None)
        else:
            os.environ[ADDRESS_VARIABLE] = before
