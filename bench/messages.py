"""The job that is measured with."""

from towline.ids import uuid7
from towline.v1.job_pb2 import Job

QUEUE = "bench"


def new_job(payload: int, delay: int = 0) -> Job:
    """``payload`` in bytes; ``delay`` in seconds, 0 for none."""
    job = Job(
        id=uuid7(),
        queue=QUEUE,
        type="Bench",
        payload=b"x" * payload,
        content_type="application/json",
    )
    if delay:
        job.delay.FromSeconds(delay)
    return job
