"""What the settings say for the jobs of a queue, written into jobs that leave it open.

Into the job itself, as its id and its queue are: so a worker knows which attempt is the last, and
how long one may run, in whichever language it is written.
"""

from towline.v1.job_pb2 import Job, RetryPolicy
from towline_broker.core.queue_options import JobDefaults
from towline_broker.domain.retry import DelayList, ExponentialBackoff
from towline_broker.services.times import to_duration


def fill_in(job: Job, defaults: JobDefaults) -> None:
    if defaults.timeout is not None and not job.HasField("timeout"):
        job.timeout.CopyFrom(to_duration(defaults.timeout))
    if defaults.retention is not None and not job.HasField("retention"):
        job.retention.CopyFrom(to_duration(defaults.retention))
    if defaults.max_attempts is not None and not job.retry.max_attempts:
        job.retry.max_attempts = defaults.max_attempts
    if defaults.jitter is not None and not job.retry.HasField("jitter"):
        job.retry.jitter = defaults.jitter
    if defaults.backoff is not None and job.retry.WhichOneof("backoff") is None:
        _set_backoff(job.retry, defaults.backoff)


def _set_backoff(retry: RetryPolicy, backoff: DelayList | ExponentialBackoff) -> None:
    if isinstance(backoff, DelayList):
        retry.delays.delays.extend(map(to_duration, backoff.delays))
        return
    exponential = retry.exponential
    exponential.initial.CopyFrom(to_duration(backoff.initial))
    exponential.multiplier = backoff.multiplier
    exponential.max.CopyFrom(to_duration(backoff.maximum))
