"""How large the values in a call may be."""

from dataclasses import dataclass

from towline_broker.domain.time import DAY, HOUR, MINUTE, SECOND, Micros

KIB = 1_024
MIB = 1_024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """The defaults are those that the contract states. Bytes of text are those of its UTF-8."""

    #: Jobs, acks, nacks, leases or ids in one call.
    batch: int = 1_000
    #: Jobs in one page of a list, or handled by one call on dead letters and queues.
    page: int = 1_000
    payload_bytes: int = 1 * MIB
    #: Of all keys and values of one job together.
    headers_bytes: int = 8 * KIB
    header_key_bytes: int = 128
    content_type_bytes: int = 128
    unique_key_bytes: int = 256
    result_bytes: int = 1 * MIB
    checkpoint_bytes: int = 64 * KIB
    #: Of worker ids and request ids.
    caller_id_bytes: int = 128
    #: One request, or one reply. A reply that would be larger brings fewer jobs.
    message_bytes: int = 64 * MIB
    queues_per_reserve: int = 100
    weight: int = 1_000
    wait: Micros = 1 * MINUTE
    min_lease: Micros = 1 * SECOND
    max_lease: Micros = 12 * HOUR
    #: Delay before a first attempt, and time to expire. Ten years with their leap days.
    start_delay: Micros = 3_653 * DAY
    #: Retry delays, time-outs, retention, and how long a unique key is held.
    period: Micros = 366 * DAY
    max_attempts: int = 1_000
    retry_delays: int = 100
    retry_multiplier: float = 100.0
    #: Longer texts of a failure are cut.
    failure_type_bytes: int = 256
    failure_message_bytes: int = 4 * KIB
    failure_trace_bytes: int = 32 * KIB
    progress_message_bytes: int = 1 * KIB

    @property
    def of_attempts(self) -> tuple[int, int, int]:
        """What a worker may report of one: result, checkpoint, text of a progress."""
        return self.result_bytes, self.checkpoint_bytes, self.progress_message_bytes

    @property
    def most_items(self) -> int:
        """Of the largest batch that any call may bring."""
        return max(self.batch, self.page, self.queues_per_reserve)

    @property
    def job_bytes(self) -> int:
        """Of a job as a whole: a little more than its fields can need, so that nothing large gets
        in by fields that this broker does not know."""
        return self.payload_bytes + 8 * self.headers_bytes + 64 * KIB

    @property
    def page_bytes(self) -> int:
        """Of the jobs in one reply of a list; the rest is for its page token."""
        return self.message_bytes - KIB

    @property
    def least_message_bytes(self) -> int:
        """A message must be able to carry any one job with all that belongs to it."""
        texts = self.failure_message_bytes + self.failure_trace_bytes
        return self.job_bytes + self.result_bytes + self.checkpoint_bytes + texts + 64 * KIB
