"""Every metric, with its labels and its meaning: what the endpoint shows and the docs list.

Names, labels and units follow the customs of Prometheus. No label holds the id of a job, a worker
or a caller: the number of time series depends on queues, types, stores and methods alone, and of
queues and types a bounded number is named.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

#: What takes the place of a queue or type that is not named; no queue can be called so.
OTHERS = "(other)"


class Scope(StrEnum):
    #: Told by the store: every broker on it tells the same, so look at one, or at the greatest.
    STORE = "store"
    #: Counted by one broker process since it started: add them up.
    PROCESS = "process"


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Distribution:
    """A value of a histogram."""

    #: Upper bounds, in seconds, and how many were at most so long as each.
    bounds: tuple[float, ...]
    up_to: tuple[int, ...]
    count: int
    seconds: float


class Row(NamedTuple):
    """A value, and those of the labels in the order of its family."""

    labels: tuple[str, ...]
    value: float | Distribution


@dataclass(frozen=True, slots=True)
class Family:
    #: As it is exposed; of a histogram without ``_bucket``, ``_count`` and ``_sum``.
    name: str
    kind: Kind
    scope: Scope
    labels: tuple[str, ...]
    help: str


#: Values of a family, and the family.
Rows = tuple[Family, Iterable[Row]]

#: Of towline_broker.domain.jobs.Totals, by field.
TOTALS = {
    "pushed": "Jobs stored by Push.",
    "started": "Attempts begun: leases granted.",
    "completed": "Attempts that succeeded.",
    "failed": "Attempts that failed, lost leases among them.",
    "retried": "Failed attempts after which the job was scheduled again.",
    "released": "Leases given back unused; the attempt does not count.",
    "dead_lettered": "Jobs that went to the dead-letter queue.",
    "lease_expired": "Leases that ran out: the worker was killed, hung or cut off.",
    "cancelled": "Jobs cancelled or purged.",
    "requeued": "Dead jobs that were put back into their queue.",
}
DEPTHS = ("scheduled", "ready", "leased", "dead")


def _totals(prefix: str, labels: tuple[str, ...]) -> dict[str, Family]:
    return {
        field: Family(
            f"towline_{prefix}jobs_{field}_total",
            Kind.COUNTER,
            Scope.STORE,
            labels,
            f"By type: {text[0].lower()}{text[1:]}" if prefix else text,
        )
        for field, text in TOTALS.items()
    }


def _of_store(name: str, labels: tuple[str, ...], text: str) -> Family:
    return Family(f"towline_{name}", Kind.GAUGE, Scope.STORE, labels, text)


def _of_process(kind: Kind, name: str, labels: tuple[str, ...], text: str) -> Family:
    return Family(f"towline_{name}", kind, Scope.PROCESS, labels, text)


_QUEUE = ("store", "queue")
_TYPE = ("store", "type")

QUEUE_JOBS = _of_store("queue_jobs", (*_QUEUE, "state"), "Jobs in a queue now, by state.")
QUEUE_OLDEST = _of_store(
    "queue_oldest_ready_age_seconds",
    _QUEUE,
    "Age of the job that has been ready for longest; 0 if none is.",
)
QUEUE_PAUSED = _of_store("queue_paused", _QUEUE, "1 if the queue is paused.")
QUEUE_TOTALS = _totals("", _QUEUE)
TYPE_JOBS = _of_store("type_jobs", (*_TYPE, "state"), "Jobs of a type now, by state.")
TYPE_TOTALS = _totals("type_", _TYPE)
WORKERS = _of_store(
    "workers", (), "Workers that this broker, and those that share its store, have heard of lately."
)

PROCESS_UP = _of_process(
    Kind.GAUGE, "process_up", (), "1 if the broker process told its figures, 0 if it did not."
)
BUILD = _of_process(Kind.GAUGE, "build_info", ("version",), "1, with the version of the broker.")
START = _of_process(
    Kind.GAUGE, "start_time_seconds", (), "When the broker began to serve, since the Unix epoch."
)
DRAINING = _of_process(Kind.GAUGE, "draining", (), "1 while the broker takes no new work.")
STORE_INFO = _of_process(
    Kind.GAUGE,
    "store_info",
    ("store", "driver", "durability"),
    "1, with the kind of the store and what it promises.",
)
STORE_UP = _of_process(
    Kind.GAUGE, "store_up", ("store",), "1 if the store told its figures, 0 if it gave no answer."
)
FIGURES_AGE = _of_process(
    Kind.GAUGE,
    "store_figures_age_seconds",
    ("store",),
    "How old the figures of the store in this scrape are.",
)
DISK_FREE = _of_process(
    Kind.GAUGE,
    "store_disk_free_bytes",
    ("store",),
    "Room on the disk of a store in files on this machine.",
)
CERTIFICATE_EXPIRES = _of_process(
    Kind.GAUGE,
    "certificate_expires_timestamp_seconds",
    ("certificate",),
    "When the certificate in use for grpc or http runs out, since the Unix epoch; client_ca: the "
    "authority for clients that does so first.",
)
UPKEEP_LAG = _of_process(
    Kind.GAUGE,
    "upkeep_lag_seconds",
    ("store",),
    "How late the last round of upkeep found what had fallen due (delays, lost leases, expiry).",
)
UPKEEP_AGE = _of_process(
    Kind.GAUGE, "upkeep_age_seconds", ("store",), "Time since upkeep has last come through."
)
PUSHES_WAITING = _of_process(
    Kind.GAUGE, "pushes_waiting", ("store",), "Calls of Push that wait for their turn at the store."
)
PUSH_WINDOW = _of_process(
    Kind.GAUGE,
    "push_window_jobs",
    ("store",),
    "How many new jobs the store is given at the same time.",
)
PARKED = _of_process(
    Kind.GAUGE, "parked_calls", (), "Calls that wait for jobs, or for the end of one."
)
PARKED_LIMIT = _of_process(
    Kind.GAUGE, "parked_calls_limit", (), "As many calls may wait; further ones are refused."
)
RPCS = _of_process(
    Kind.COUNTER, "rpcs_total", ("method", "code"), "Calls that have ended, by gRPC code."
)
RPCS_RUNNING = _of_process(
    Kind.GAUGE, "rpcs_running", ("method",), "Calls under way, parked ones among them."
)
RPC_SECONDS = _of_process(
    Kind.HISTOGRAM,
    "rpc_duration_seconds",
    ("method",),
    "How long calls took, the time in which they were parked included.",
)
STREAM_ANSWERS = _of_process(
    Kind.COUNTER,
    "stream_answers_total",
    ("method", "code"),
    "Pushes of PushStream and messages of Work that were answered, by gRPC code.",
)
FAILURES = _of_process(
    Kind.COUNTER,
    "rpc_failures_total",
    ("reason",),
    "Calls and messages of streams that failed or were refused, by the reason of their ErrorInfo.",
)
RIGHTS = _of_process(
    Kind.COUNTER,
    "rights_refused_total",
    ("method", "code"),
    "Calls, and items of calls, refused for want of credentials or rights; the log says whose.",
)
WAIT = _of_process(
    Kind.HISTOGRAM,
    "job_wait_seconds",
    ("queue",),
    "From being ready to the lease, of jobs leased by this process.",
)
PROCESSING = _of_process(
    Kind.HISTOGRAM,
    "job_processing_seconds",
    ("queue",),
    "From the lease to its end, of jobs settled by this process.",
)

OF_STORES = (
    *(QUEUE_JOBS, QUEUE_OLDEST, QUEUE_PAUSED, *QUEUE_TOTALS.values()),
    *(TYPE_JOBS, *TYPE_TOTALS.values(), WORKERS),
)
OF_PROCESS = (
    *(PROCESS_UP, BUILD, START, DRAINING, STORE_INFO, STORE_UP, FIGURES_AGE, DISK_FREE),
    CERTIFICATE_EXPIRES,
    *(UPKEEP_LAG, UPKEEP_AGE, PUSHES_WAITING, PUSH_WINDOW, PARKED, PARKED_LIMIT),
    *(RPCS, RPCS_RUNNING, RPC_SECONDS, STREAM_ANSWERS, FAILURES, RIGHTS, WAIT, PROCESSING),
)
#: In the order in which they are shown.
ALL = (*OF_STORES, *OF_PROCESS)
