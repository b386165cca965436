"""The delay that a job's retry policy gives after a failed attempt, as the contract defines it."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from towline.v1.job_pb2 import RetryPolicy

INITIAL = 1.0
MULTIPLIER = 2.0
MAXIMUM = 600.0
"""Of a policy that names no backoff; seconds."""


def retry_delay(policy: RetryPolicy, failures: int) -> float:
    """Return the seconds before the next attempt after so many failures (1 or more), no jitter."""
    if policy.WhichOneof("backoff") == "delays":
        delays = policy.delays.delays
        return _seconds(delays[min(failures, len(delays)) - 1])
    exponential = policy.exponential
    initial = _seconds(exponential.initial) if exponential.HasField("initial") else INITIAL
    maximum = _seconds(exponential.max) if exponential.HasField("max") else MAXIMUM
    try:
        return min(initial * (exponential.multiplier or MULTIPLIER) ** (failures - 1), maximum)
    except OverflowError:
        return maximum if initial else 0.0


def _seconds(duration: Duration) -> float:
    return duration.ToTimedelta().total_seconds()
