"""What this broker remembers of its jobs beside what SQS keeps; its end is the end of it.

Bounded by number as well as by time: what is forgotten early costs a doubled job at worst.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from towline_broker.domain.jobs import Failure, JobState, LeaseRef, Progress, Settlement
from towline_broker.domain.time import MINUTE, Micros

#: Most entries of each kind.
MOST = 200_000
#: For how long the id of a pushed job is known.
PUSH_MEMORY: Micros = 10 * MINUTE

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values until their times, the newest of them."""

    def __init__(self) -> None:
        self._values: OrderedDict[K, tuple[V, Micros]] = OrderedDict()

    def put(self, key: K, value: V, until: Micros) -> None:
        self._values[key] = (value, until)
        self._values.move_to_end(key)
        if len(self._values) > MOST:
            self._values.popitem(last=False)

    def get(self, key: K) -> V | None:
        kept = self._values.get(key)
        return None if kept is None else kept[0]

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def forget(self, now: Micros, limit: int) -> int:
        """In the order in which they were put, which is nearly that of their times."""
        gone = 0
        while gone < limit and self._values:
            key, (_, until) = next(iter(self._values.items()))
            if until > now:
                break
            del self._values[key]
            gone += 1
        return gone


@dataclass(slots=True)
class Note:
    """What earlier leases of a waiting job have left."""

    #: Receives that were no attempts: releases, and copies of a message that SQS sent again.
    uncounted: int = 0
    ready_at: Micros = 0
    failure: Failure | None = None
    progress: Progress | None = None


class Memory:
    def __init__(self) -> None:
        #: Jobs that were pushed (READY) or have ended here.
        self.jobs: Recent[str, JobState] = Recent()
        self.settled: Recent[LeaseRef, Settlement] = Recent()
        self._notes: OrderedDict[str, Note] = OrderedDict()

    def has_ended(self, job_id: str) -> bool:
        state = self.jobs.get(job_id)
        return state is not None and state.ended

    def note(self, job_id: str) -> Note:
        """That of a job, made if there is none."""
        note = self._notes.setdefault(job_id, Note())
        self._notes.move_to_end(job_id)
        if len(self._notes) > MOST:
            self._notes.popitem(last=False)
        return note

    def noted(self, job_id: str) -> Note | None:
        return self._notes.get(job_id)

    def ended(self, job_id: str, state: JobState, until: Micros) -> None:
        self._notes.pop(job_id, None)
        self.jobs.put(job_id, state, until)

    def forget(self, now: Micros, limit: int) -> int:
        gone = self.jobs.forget(now, limit)
        return gone + self.settled.forget(now, limit - gone)
