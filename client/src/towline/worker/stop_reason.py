"""Why a worker stops."""

from __future__ import annotations

import enum


class StopReason(enum.Enum):
    """``Worker.stop_reason``. After the last three, whoever runs workers should start another."""

    TOLD = "it was told to, by stop() or a signal"
    BROKER = "the broker told it to"
    ONCE = "it was to run one job"
    MAX_JOBS = "it has taken max_jobs jobs"
    EMPTY = "its queues were empty, and it was to stop then"
    MAX_TIME = "max_time is over"
    MAX_MEMORY = "its process holds more than max_memory"
    STUCK = "too many handlers did not end although they were told to"
    ERROR = "it could not go on"
