"""What clients saw, and whether it keeps the promises.

Every time is one of ``time.monotonic()`` of the one process that runs all clients. An operation
has a time at which it was called and one at which it returned: what it did happened somewhere in
between.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Delivery:
    job_id: str
    attempt: int
    #: When the Reserve that brought it was called (not when it returned).
    called: float


@dataclass(slots=True)
class History:
    """Filled by many threads."""

    #: Ids whose Push returned OK.
    pushed: set[str] = field(default_factory=set)
    #: Ids whose Push the broker answered with CREATED, each time that it did.
    created: Counter[str] = field(default_factory=Counter)
    deliveries: list[Delivery] = field(default_factory=list)
    #: Id to the time at which an Ack first returned OK.
    acked: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record_push(self, ids: list[str], created: list[str]) -> None:
        with self._lock:
            self.pushed.update(ids)
            self.created.update(created)

    def record_deliveries(self, deliveries: list[Delivery]) -> None:
        with self._lock:
            self.deliveries.extend(deliveries)

    def record_acks(self, ids: list[str], returned: float) -> None:
        with self._lock:
            for job_id in ids:
                self.acked.setdefault(job_id, returned)


@dataclass(frozen=True, slots=True)
class Verdict:
    """After a full drain. Each a number of jobs."""

    pushed: int
    delivered: int
    #: P1: acknowledged to the producer and never delivered.
    lost: int
    #: P2, P3: delivered by a Reserve that was called after the job's Ack had returned.
    delivered_after_ack: int
    #: P3: stored by more than one Push.
    created_twice: int
    #: P5: the same attempt of the same job delivered more than once.
    attempts_repeated: int

    @property
    def kept(self) -> bool:
        return not (
            self.lost or self.delivered_after_ack or self.created_twice or self.attempts_repeated
        )


def judge(history: History) -> Verdict:
    delivered = {delivery.job_id for delivery in history.deliveries}
    late = [
        delivery
        for delivery in history.deliveries
        if delivery.called > history.acked.get(delivery.job_id, float("inf"))
    ]
    attempts = Counter((d.job_id, d.attempt) for d in history.deliveries)
    return Verdict(
        pushed=len(history.pushed),
        delivered=len(delivered),
        lost=len(history.pushed - delivered),
        delivered_after_ack=len(late),
        created_twice=sum(count > 1 for count in history.created.values()),
        attempts_repeated=sum(count > 1 for count in attempts.values()),
    )
