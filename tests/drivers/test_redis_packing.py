"""Jobs come back from the form in which Redis keeps them as they were."""

from hypothesis import given
from hypothesis import strategies as st

from towline_broker.domain.jobs import DeadReason, Failure, JobState, NewJob, Progress
from towline_broker.domain.retry import DelayList, ExponentialBackoff, RetryPolicy
from towline_broker.drivers.redis.frames import join, split
from towline_broker.drivers.redis.packing import (
    APART,
    Row,
    pack_job,
    pack_row,
    unpack_head,
    unpack_row,
)

TIME = st.integers(1, 2**52)
TEXT = st.text(max_size=20)
JOB = st.builds(
    NewJob,
    id=TEXT,
    queue=TEXT,
    type=TEXT,
    envelope=st.binary(max_size=50) | st.just(b"x" * (APART + 1)),
    priority=st.integers(-(2**31), 2**31 - 1),
    expires_at=st.none() | TIME,
    retention=st.just(0) | TIME,
    unique_key=st.just("k") | TEXT,
    unique_until=st.none() | TIME,
    retry=st.sampled_from(
        [
            RetryPolicy(),
            RetryPolicy(7, DelayList((0, 5)), 0.25),
            RetryPolicy(1, ExponentialBackoff(1, 1.5, 9), 1.0),
        ]
    ),
)
ROW = st.builds(
    Row,
    state=st.sampled_from(JobState),
    attempt=st.integers(0, 2**31 - 1),
    releases=st.integers(0, 2**31 - 1),
    available_at=TIME,
    started_at=TIME,
    finished_at=TIME,
    lease_until=TIME,
    lease_length=TIME,
    grant=TEXT,
    worker_id=TEXT,
    failure=st.none() | st.builds(Failure, TEXT, TEXT, TEXT, TIME),
    progress=st.none() | st.builds(Progress, st.floats(0, 1), TEXT, st.binary(max_size=9)),
    result=st.binary(max_size=9),
    dead_reason=st.none() | st.sampled_from(DeadReason),
    lasting=st.booleans(),
)


@given(JOB, TIME, st.just(0) | TIME, st.just(0) | TIME)
def test_a_job_as_pushed(new: NewJob, now: int, due_at: int, order: int) -> None:
    packed = pack_job(new, now, due_at, order)
    if len(new.envelope) > APART:
        assert new.envelope not in packed
        packed += new.envelope
    head = unpack_head(packed)
    assert (head.enqueued_at, head.due_at, head.order) == (now, due_at, order)
    assert head.as_new() == new


@given(ROW)
def test_what_has_become_of_a_job(row: Row) -> None:
    assert unpack_row(pack_row(row)) == row


@given(st.lists(st.binary(max_size=300)))
def test_many_parts_as_one(parts: list[bytes]) -> None:
    assert list(split(join(parts))) == parts
