"""From a job as its producer describes it to what the core is asked to store."""

from towline.ids import uuid7
from towline.v1.job_pb2 import Job
from towline.v1.job_pb2 import RetryPolicy as RetryPolicyMessage
from towline_broker.core.calls import JobRequest
from towline_broker.core.producing import Producing
from towline_broker.domain.retry import (
    DEFAULT_POLICY,
    DelayList,
    ExponentialBackoff,
    RetryPolicy,
)
from towline_broker.domain.time import Micros
from towline_broker.services.checks import Checks, is_name, is_uuid
from towline_broker.services.job_defaults import fill_in
from towline_broker.services.limits import Limits
from towline_broker.services.store_limits import StoreLimits

DEFAULT_QUEUE = "default"

_DEFAULT_BACKOFF = ExponentialBackoff()


class JobReader:
    """Runs once for each pushed job: it looks at what is set, and at little else."""

    def __init__(self, limits: Limits, jobs: Producing) -> None:
        self._limits = limits
        self._jobs = jobs

    def read(
        self, job: Job, path: str, now: Micros, checks: Checks, stores: StoreLimits
    ) -> JobRequest:
        """Fills in the id, the queue and what is set for the queue's jobs, where they are unset.
        The request is good only if nothing was found."""
        limits = self._limits
        job_id, queue, kind = job.id, job.queue, job.type
        if not job_id:
            job.id = job_id = uuid7()
        elif not is_uuid(job_id):
            checks.uuid(job_id, f"{path}.id")
        if not queue:
            job.queue = queue = DEFAULT_QUEUE
        elif not is_name(queue):
            checks.name(queue, f"{path}.queue")
        if not is_name(kind):
            checks.name(kind, f"{path}.type")
        if self._jobs.any_defaults:
            fill_in(job, self._jobs.defaults_of(queue))
        if len(job.payload) > limits.payload_bytes:
            checks.size(len(job.payload), f"{path}.payload", limits.payload_bytes)
        if job.content_type:
            size = len(job.content_type.encode())
            checks.size(size, f"{path}.content_type", limits.content_type_bytes)
        if job.headers:
            self._headers(job, path, checks)
        delay, run_at = self._start(job, path, now, checks)
        unique_key, unique_for = self._unique(job, path, checks)
        envelope = job.SerializeToString()
        if len(envelope) > limits.job_bytes and not checks.found:
            checks.size(len(envelope), path, limits.job_bytes)
        request = JobRequest(
            id=job_id,
            queue=queue,
            type=kind,
            envelope=envelope,
            priority=job.priority,
            delay=delay,
            run_at=run_at,
            expires_in=self._lifetime(job, path, checks),
            retention=(
                checks.duration(job.retention, f"{path}.retention", limits.period)
                if job.HasField("retention")
                else 0
            ),
            unique_key=unique_key,
            unique_for=unique_for,
            retry=(
                self._retry(job.retry, f"{path}.retry", checks)
                if job.HasField("retry")
                else DEFAULT_POLICY
            ),
        )
        stores.check(request, path, now, checks)
        return request

    def _headers(self, job: Job, path: str, checks: Checks) -> None:
        total = 0
        for key, value in job.headers.items():
            size = len(key.encode())
            if not 1 <= size <= self._limits.header_key_bytes:
                most = self._limits.header_key_bytes
                checks.wrong(f"{path}.headers", f"a key has {size} bytes; expected 1 to {most}")
            total += size + len(value.encode())
        checks.size(total, f"{path}.headers", self._limits.headers_bytes)

    def _start(
        self, job: Job, path: str, now: Micros, checks: Checks
    ) -> tuple[Micros | None, Micros | None]:
        match job.WhichOneof("start"):
            case "delay":
                most = self._limits.start_delay
                return checks.duration(job.delay, f"{path}.delay", most), None
            case "run_at":
                run_at = checks.moment(job.run_at, f"{path}.run_at")
                if run_at > now + self._limits.start_delay:
                    checks.wrong(f"{path}.run_at", "is more than 10 years ahead")
                return None, run_at
        return None, None

    def _lifetime(self, job: Job, path: str, checks: Checks) -> Micros | None:
        if job.HasField("timeout"):
            checks.duration(job.timeout, f"{path}.timeout", self._limits.period, zero=False)
        if job.HasField("expires_in"):
            most = self._limits.start_delay
            return checks.duration(job.expires_in, f"{path}.expires_in", most, zero=False)
        return None

    def _unique(self, job: Job, path: str, checks: Checks) -> tuple[str | None, Micros | None]:
        key = job.unique_key
        if key:
            checks.size(len(key.encode()), f"{path}.unique_key", self._limits.unique_key_bytes)
            if "\0" in key:  # some SQL databases keep no such text
                checks.wrong(f"{path}.unique_key", "holds a NUL character")
        if not job.HasField("unique_for"):
            return key or None, None
        if not key:
            checks.wrong(f"{path}.unique_for", "is set without unique_key")
        most = self._limits.period
        return key or None, checks.duration(job.unique_for, f"{path}.unique_for", most, zero=False)

    def _retry(self, retry: RetryPolicyMessage, path: str, checks: Checks) -> RetryPolicy:
        max_attempts = retry.max_attempts or DEFAULT_POLICY.max_attempts
        checks.whole(max_attempts, f"{path}.max_attempts", self._limits.max_attempts)
        jitter = DEFAULT_POLICY.jitter
        if retry.HasField("jitter"):
            jitter = retry.jitter
            checks.real(jitter, f"{path}.jitter", 0, 1)
        return RetryPolicy(max_attempts, self._backoff(retry, path, checks), jitter)

    def _backoff(
        self, retry: RetryPolicyMessage, path: str, checks: Checks
    ) -> DelayList | ExponentialBackoff:
        most = self._limits.period
        match retry.WhichOneof("backoff"):
            case "delays":
                delays, path = retry.delays.delays, f"{path}.delays.delays"
                checks.count(delays, path, self._limits.retry_delays)
                return DelayList(
                    tuple(
                        checks.duration(delay, f"{path}[{index}]", most)
                        for index, delay in enumerate(delays[: self._limits.retry_delays])
                    )
                )
            case "exponential":
                exponential, path = retry.exponential, f"{path}.exponential"
                initial, maximum = _DEFAULT_BACKOFF.initial, _DEFAULT_BACKOFF.maximum
                if exponential.HasField("initial"):
                    initial = checks.duration(exponential.initial, f"{path}.initial", most)
                if exponential.HasField("max"):
                    maximum = checks.duration(exponential.max, f"{path}.max", most)
                multiplier = exponential.multiplier or _DEFAULT_BACKOFF.multiplier
                checks.real(multiplier, f"{path}.multiplier", 1, self._limits.retry_multiplier)
                return ExponentialBackoff(initial, multiplier, maximum)
        return _DEFAULT_BACKOFF
