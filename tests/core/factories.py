"""Short ways to say what a test is about."""

from uuid import uuid4

from towline_broker.core.calls import JobRequest, QueueWeight, ReserveCall
from towline_broker.domain.retry import DEFAULT_POLICY, RetryPolicy
from towline_broker.domain.time import Micros


def job(
    queue: str = "emails",
    *,
    delay: Micros | None = None,
    expires_in: Micros | None = None,
    retry: RetryPolicy = DEFAULT_POLICY,
    priority: int = 0,
) -> JobRequest:
    return JobRequest(
        id=str(uuid4()),
        queue=queue,
        type="SendEmail",
        envelope=b"{}",
        delay=delay,
        expires_in=expires_in,
        retry=retry,
        priority=priority,
    )


def reserve(
    *queues: str,
    max_jobs: int = 1,
    wait: Micros = 0,
    lease: Micros | None = None,
    worker_id: str = "",
    request_id: str = "",
) -> ReserveCall:
    names = queues or ("emails",)
    return ReserveCall(
        [QueueWeight(name) for name in names], max_jobs, wait, lease, worker_id, request_id
    )
