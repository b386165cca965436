"""What the services ask of the core, and what it answers.

Lengths of time that a caller gives are relative here; the core turns them into times on its clock.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from msgspec import Struct, field

from towline_broker.domain.jobs import Depth, Failure, LeaseRef, NewJob, Progress, Totals
from towline_broker.domain.retry import DEFAULT_POLICY, RetryPolicy
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import AckItem, Capabilities


class JobRequest(Struct, frozen=True, gc=False):
    """A job as its producer describes it. At most one of ``delay`` and ``run_at`` is set."""

    id: str
    queue: str
    type: str
    envelope: bytes
    priority: int = 0
    delay: Micros | None = None
    run_at: Micros | None = None
    expires_in: Micros | None = None
    retention: Micros = 0
    unique_key: str | None = None
    unique_for: Micros | None = None
    retry: RetryPolicy = DEFAULT_POLICY


#: What is pushed. A NewJob is one that has no times, so it does not matter when it is stored.
ToStore: TypeAlias = JobRequest | NewJob


class QueueWeight(Struct, frozen=True, gc=False):
    name: str
    #: 0 for every queue of a call: strict order.
    weight: int = 0


class ReserveCall(Struct, frozen=True, gc=False):
    queues: Sequence[QueueWeight]
    max_jobs: int = 1
    #: How long the call may be parked; 0: not at all.
    wait: Micros = 0
    #: None: the default length.
    lease: Micros | None = None
    worker_id: str = ""
    request_id: str = ""
    #: The mark of the identity that is to hold the leases; empty: of anybody.
    holder: str = ""
    #: No further job once the envelopes of those leased come to so many bytes; None: no bound.
    max_bytes: int | None = None

    @property
    def worker(self) -> "WorkerKey":
        return WorkerKey(self.worker_id, self.holder)


class LeaseOutcome(IntEnum):
    """The numbers equal those of ``towline.v1.LeaseOutcome``."""

    OK = 1
    LEASE_LOST = 2
    ALREADY_SETTLED = 3
    NOT_FOUND = 4
    CANCELLED = 5


#: There is nothing to decide about an Ack: its store is asked just that.
AckCall: TypeAlias = AckItem


class RetryByPolicy(Struct, frozen=True, gc=False):
    pass


class RetryAfter(Struct, frozen=True, gc=False):
    delay: Micros


class Release(Struct, frozen=True, gc=False):
    delay: Micros = 0


class DeadLetter(Struct, frozen=True, gc=False):
    pass


class NackCall(Struct, frozen=True, gc=False):
    ref: LeaseRef
    action: RetryByPolicy | RetryAfter | Release | DeadLetter = RetryByPolicy()
    #: Its ``at`` is set by the core.
    failure: Failure | None = None


class HeartbeatItem(Struct, frozen=True, gc=False):
    ref: LeaseRef
    #: None: the length that was granted.
    extend: Micros | None = None
    progress: Progress | None = None


class HeartbeatAnswer(Struct, frozen=True, gc=False):
    outcome: LeaseOutcome
    #: For OK: what is left of the lease.
    remaining: Micros = 0


class Directive(IntEnum):
    """The numbers equal those of ``towline.v1.WorkerDirective``."""

    UNSPECIFIED = 0
    NONE = 1
    QUIET = 2
    STOP = 3


class WorkerKey(NamedTuple):
    #: What the worker says that it is called; empty: an anonymous one.
    id: str
    #: The mark of the identity that calls in its name; empty: anybody.
    holder: str = ""


class WorkerView(Struct, frozen=True, gc=False):
    key: WorkerKey
    #: Of its last Reserve.
    queues: Sequence[str]
    #: How many it holds, by queue.
    leases: Mapping[str, int]
    first_seen: Micros
    last_seen: Micros
    directive: Directive


class Timing(Struct, frozen=True, gc=False):
    """A distribution of lengths of time; everything but ``count`` is 0 when ``count`` is."""

    count: int = 0
    mean: Micros = 0
    p50: Micros = 0
    p95: Micros = 0
    p99: Micros = 0


NO_TIMING = Timing()


class Figures(Struct, frozen=True, gc=False):
    depth: Depth = field(default_factory=Depth)
    totals: Totals = field(default_factory=Totals)
    #: Age of the job that has been READY for longest.
    oldest_ready: Micros | None = None
    processing: Timing = NO_TIMING
    wait: Timing = NO_TIMING


class QueueView(Struct, frozen=True, gc=False):
    name: str
    paused: bool
    figures: Figures
    #: The name of the store that it is at home in.
    store: str
    #: That of the store it is on its way to; empty if it is not.
    moving_to: str = ""


class Report(Struct, frozen=True, gc=False):
    """Everything that AdminService.Stats tells."""

    total: Figures
    queues: Sequence[QueueView]
    types: Sequence[tuple[str, Figures]]
    #: Name and capabilities, the default store first.
    stores: Sequence[tuple[str, Capabilities]]
    workers: int
    uptime: Micros
    started_at: Micros
    store_time: Micros
