"""Running jobs: the Worker and what goes with it."""

from towline.worker.errors import (
    InvalidResult,
    JobTimeout,
    NotSettled,
    UnknownJobType,
    WorkerStateError,
)
from towline.worker.stats import WorkerStats
from towline.worker.worker import Worker

__all__ = [
    "InvalidResult",
    "JobTimeout",
    "NotSettled",
    "UnknownJobType",
    "Worker",
    "WorkerStateError",
    "WorkerStats",
]
