"""What the state machine draws. Times are small multiples of one unit, so that deadlines are met
exactly, as well as missed and passed by little."""

from dataclasses import dataclass

from hypothesis import strategies as st
from msgspec.structs import replace

from towline_broker.domain.jobs import (
    DeadReason,
    Failure,
    LeaseRef,
    NewJob,
    Progress,
    Settlement,
)
from towline_broker.domain.retry import DelayList, RetryPolicy
from towline_broker.domain.time import SECOND, Micros
from towline_broker.drivers.interface import (
    DeadFilter,
    ExtendItem,
    Feature,
    NackItem,
    ReserveRequest,
)

WINDOW: Micros = 8 * SECOND
LONGEST_LEASE: Micros = 5 * SECOND


def _times(*seconds: int) -> st.SearchStrategy[Micros]:
    return st.sampled_from([number * SECOND for number in seconds])


def _maybe(strategy: st.SearchStrategy[Micros]) -> st.SearchStrategy[Micros | None]:
    return st.none() | strategy


LATE = st.sampled_from([False, False, True])
STEP_OF_TIME = _times(1, 2, 3, 8) | st.just(1)
LIMIT = st.sampled_from([1, 2, 1000])
MAX_DEPTH = st.sampled_from([{}, {}, {}, {"a": 3}, {"a": 2, "b": 4}])
#: Positions from the end of what was named so far.
PICK = st.integers(0, 3) | st.integers(0, 30)
PICKS = st.lists(PICK, min_size=1, max_size=4)


@dataclass(frozen=True)
class RandomJob:
    #: The position of an id that was pushed before.
    again: int | None
    #: First digit of a new id, so that ids do not sort in the order of their push.
    digit: str
    queue: str
    type: str
    priority: int
    delay: Micros | None
    expires_in: Micros | None
    retention: Micros
    unique_key: str | None
    unique_for: Micros | None
    retry: RetryPolicy

    def at(self, now: Micros, job_id: str) -> NewJob:
        return NewJob(
            id=job_id,
            queue=self.queue,
            type=self.type,
            envelope=f"{self.queue}·{now}".encode(),
            priority=self.priority,
            due_at=None if self.delay is None else now + self.delay,
            expires_at=None if self.expires_in is None else now + self.expires_in,
            retention=self.retention,
            unique_key=self.unique_key,
            unique_until=(
                None
                if self.unique_key is None or self.unique_for is None
                else now + self.unique_for
            ),
            retry=self.retry,
        )


def offered(job: NewJob, missing: frozenset[Feature]) -> NewJob:
    """The job without what a store cannot do."""
    if Feature.PRIORITY in missing:
        job = replace(job, priority=0)
    if Feature.UNIQUE_KEYS in missing:
        job = replace(job, unique_key=None, unique_until=None)
    if Feature.EXPIRY in missing:
        job = replace(job, expires_at=None)
    if Feature.RETENTION in missing:
        job = replace(job, retention=0)
    return job


JOB = st.builds(
    RandomJob,
    again=st.sampled_from([None] * 9 + [0, 5]),
    digit=st.sampled_from("082f"),
    queue=st.sampled_from(["a", "a", "b"]),
    type=st.sampled_from(["T", "U"]),
    priority=st.sampled_from([0, 0, 0, 0, 1, -(2**31)]),
    delay=st.sampled_from([None, None, None, None, 0, SECOND, 3 * SECOND, -SECOND]),
    expires_in=st.sampled_from([None, None, None, SECOND, 4 * SECOND]),
    retention=_times(0, 0, 3, 20),
    unique_key=st.sampled_from([None, None, None, "k", "ключ"]),
    unique_for=_maybe(_times(1, 4)),
    retry=st.sampled_from([RetryPolicy(), RetryPolicy(5, DelayList((0, SECOND)), 0.0)]),
)


JOBS = st.lists(JOB, min_size=1, max_size=4)


@dataclass(frozen=True)
class RandomReserve:
    queues: list[str]
    max_jobs: int
    lease: Micros
    worker_id: str
    request_id: str
    max_bytes: int | None

    def at(self, now: Micros, grant: str) -> ReserveRequest:
        return ReserveRequest(
            *(self.queues, self.max_jobs, self.lease, grant, now, self.worker_id),
            *(self.request_id, self.max_bytes),
        )


RESERVE = st.builds(
    RandomReserve,
    queues=st.sampled_from([["a", "b"], ["b", "a"], ["a"], ["b"]]),
    max_jobs=st.integers(1, 4),
    lease=_times(2, 5),
    worker_id=st.sampled_from(["", "w1"]),
    request_id=st.sampled_from(["", "", "", "r1", "r2"]),
    # An envelope has about 20.
    max_bytes=st.sampled_from([None, None, 1, 25]),
)


@dataclass(frozen=True)
class RandomNack:
    pick: int
    settlement: Settlement
    delay: Micros | None
    reason: DeadReason
    dead: bool
    failure: Failure | None

    def at(self, now: Micros, ref: LeaseRef) -> NackItem:
        dead = self.settlement is Settlement.DEAD_LETTERED or (
            self.settlement is Settlement.LOST and self.dead
        )
        return NackItem(
            ref,
            self.settlement,
            due_at=None if dead or self.delay is None else now + self.delay,
            dead_reason=self.reason if dead else None,
            failure=self.failure,
        )


NACK = st.builds(
    RandomNack,
    pick=PICK,
    settlement=st.sampled_from(
        [Settlement.RETRIED, Settlement.RELEASED, Settlement.DEAD_LETTERED, Settlement.LOST]
    ),
    delay=_maybe(_times(0, 1, 3)),
    reason=st.sampled_from([DeadReason.REJECTED, DeadReason.ATTEMPTS_EXHAUSTED]),
    dead=st.booleans(),
    failure=st.none() | st.builds(Failure, st.sampled_from(["E", "Ошибка"]), at=st.just(SECOND)),
)
NACKS = st.lists(NACK, min_size=1, max_size=3)


@dataclass(frozen=True)
class RandomExtension:
    pick: int
    lease: Micros | None
    progress: Progress | None

    def at(self, ref: LeaseRef) -> ExtendItem:
        return ExtendItem(ref, self.lease, self.progress)


EXTENSION = st.builds(
    RandomExtension,
    pick=PICK,
    lease=_maybe(_times(1, 4)),
    progress=st.none()
    | st.builds(
        Progress,
        st.sampled_from([0.0, 0.25, 1.0]),
        st.sampled_from(["", "½"]),
        st.sampled_from([b"", b"\x00row"]),
    ),
)
EXTENSIONS = st.lists(EXTENSION, min_size=1, max_size=3)


@dataclass(frozen=True)
class RandomDead:
    #: By ids if there are any, else by filter.
    picks: list[int]
    queue: str | None
    type: str | None
    reason: DeadReason | None
    after: Micros | None
    before: Micros | None

    def filter_at(self, now: Micros) -> DeadFilter:
        return DeadFilter(
            self.queue,
            self.type,
            self.reason,
            None if self.after is None else now - self.after,
            None if self.before is None else now - self.before,
        )


DEAD = st.builds(
    RandomDead,
    picks=st.just([]) | PICKS,
    queue=st.sampled_from([None, None, "a", "b"]),
    type=st.sampled_from([None, None, "T"]),
    reason=st.sampled_from([None, None, DeadReason.EXPIRED, DeadReason.REJECTED]),
    after=st.sampled_from([None, None, 0, 2 * SECOND]),
    before=st.sampled_from([None, None, 0, SECOND]),
)


@dataclass(frozen=True)
class RandomMove:
    #: The name of a store; None: the queue stays at home.
    to: str | None
    limit: int
    drop: bool
    forward: bool
    comes_back: bool


MOVE = st.builds(
    RandomMove,
    to=st.sampled_from([None, "x", "y"]),
    limit=LIMIT,
    drop=st.booleans(),
    forward=st.booleans(),
    # Seldom away for long, for nothing is leased from a queue that is on its way.
    comes_back=st.sampled_from([True, True, True, False]),
)
