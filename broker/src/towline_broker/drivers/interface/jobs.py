"""Storing jobs, looking at them and cancelling them."""

from collections.abc import Mapping, Sequence
from enum import Enum, IntEnum
from typing import Protocol

from msgspec import Struct, field

from towline_broker.domain.jobs import JobPage, JobRecord, JobState, NewJob
from towline_broker.domain.time import Micros


class PushOutcome(Enum):
    CREATED = "created"
    EXISTING = "existing"
    QUEUE_FULL = "queue full"
    #: Said by the core, never by a driver: there may be no further queue.
    NO_NEW_QUEUE = "no new queue"


class PushBatch(Struct, frozen=True, gc=False):
    jobs: Sequence[NewJob]
    now: Micros
    #: True: raise QueueFull and store nothing if any job meets a full queue.
    all_or_nothing: bool = True
    #: Most live jobs (SCHEDULED + READY + LEASED) per queue; no entry: no limit.
    max_depth: Mapping[str, int] = field(default_factory=dict)


class PushResult(Struct, frozen=True, gc=False):
    #: The id that was pushed; for EXISTING by unique key, that of the job which holds the key.
    job_id: str
    outcome: PushOutcome


class JobQuery(Struct, frozen=True, gc=False):
    limit: int
    queue: str | None = None
    type: str | None = None
    #: Empty: every state.
    states: frozenset[JobState] = frozenset()
    cursor: str | None = None


class CancelOutcome(IntEnum):
    """The numbers equal those of ``towline.v1.CancelOutcome``."""

    CANCELLED = 1
    ALREADY_ENDED = 2
    NOT_FOUND = 3


class CancelRequest(Struct, frozen=True, gc=False):
    job_ids: Sequence[str]
    now: Micros
    remember_until: Micros


class JobStore(Protocol):
    """Storing and looking at jobs."""

    async def push(self, batch: PushBatch) -> list[PushResult]:
        """Stores the jobs, in their order; one result for each.

        EXISTING, and nothing stored, when a job of this id is stored, or is in the settle memory,
        or came earlier in this batch; or when its unique key is held in its queue at ``now``.

        Raises QueueFull (``all_or_nothing`` and a queue is full), StoreFull, QueueMoved (nothing
        of the batch is stored).
        """

    async def get(self, job_id: str) -> JobRecord | None:
        """One job; from the settle memory if it is gone from the store. None: not known."""

    async def list_jobs(self, query: JobQuery) -> JobPage:
        """Stored jobs in the order of their push. May look at a bounded number of jobs a call and
        return fewer than ``limit`` together with a cursor."""

    async def cancel(self, request: CancelRequest) -> list[CancelOutcome]:
        """Makes SCHEDULED, READY and LEASED jobs CANCELLED; one outcome for each id.

        The lease of a LEASED job is remembered as CANCELLED. A job whose retention is 0 is
        removed. In any case the settle memory keeps its id and state until ``remember_until``. Its
        unique key is freed, even if held for a time of its own.
        """
