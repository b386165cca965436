"""Running jobs: the Worker and what goes with it."""

from towline.worker.background import start_in_background
from towline.worker.errors import (
    InvalidResult,
    JobTimeout,
    NotSettled,
    UnknownJobType,
    WorkerChildDied,
    WorkerProcessFailed,
    WorkerStateError,
)
from towline.worker.stats import WorkerStats
from towline.worker.stop_reason import StopReason
from towline.worker.worker import Worker

__all__ = [
    "InvalidResult",
    "JobTimeout",
    "NotSettled",
    "StopReason",
    "UnknownJobType",
    "Worker",
    "WorkerChildDied",
    "WorkerProcessFailed",
    "WorkerStateError",
    "WorkerStats",
    "start_in_background",
]
