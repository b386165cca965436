"""What a job says about itself is what happens to it, from the wire to the store and back."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.core.manual_clock import ManualClock
from tests.support.calls import Calls, failure_of, seconds
from tests.support.waiting import until
from towline.ids import uuid7
from towline.v1.job_pb2 import (
    DeadReason,
    DelayList,
    ExponentialBackoff,
    Failure,
    Job,
    JobInfo,
    JobState,
    Lease,
    RetryPolicy,
)
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    GetJobRequest,
    Nack,
    NackRequest,
    PushOutcome,
    PushRequest,
    PushResult,
    QueueChoice,
    Release,
    ReserveRequest,
)
from towline_broker.domain.time import MINUTE, SECOND

READY, SCHEDULED, DEAD = (
    JobState.JOB_STATE_READY,
    JobState.JOB_STATE_SCHEDULED,
    JobState.JOB_STATE_DEAD,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def push(calls: Calls, **fields: Any) -> PushResult:
    job = Job(id=uuid7(), **{"type": "T", "queue": "q", **fields})
    result: PushResult = (await calls.queue.Push(PushRequest(jobs=[job]))).results[0]
    return result


async def reserve(calls: Calls, *queues: QueueChoice) -> Lease:
    request = ReserveRequest(queues=queues or [QueueChoice(name="q")])
    lease: Lease = (await calls.queue.Reserve(request)).leases[0]
    return lease


async def nack(calls: Calls, lease: Lease, **action: Any) -> JobInfo:
    """The job as the Nack leaves it."""
    item = Nack(lease_token=lease.lease_token, failure=Failure(type="E"), **action)
    await calls.queue.Nack(NackRequest(nacks=[item]))
    return await get(calls, lease.job.id)


async def ack(calls: Calls, lease: Lease, result: bytes = b"") -> None:
    await calls.queue.Ack(AckRequest(acks=[Ack(lease_token=lease.lease_token, result=result)]))


async def get(calls: Calls, job_id: str) -> JobInfo:
    job: JobInfo = (await calls.queue.GetJob(GetJobRequest(id=job_id))).job
    return job


async def until_state(
    calls: Calls, clock: ManualClock, job_id: str, state: "JobState.ValueType"
) -> JobInfo:
    async def reached() -> bool:
        await clock.advance(0)  # what was set for a moment that has passed meanwhile
        return (await get(calls, job_id)).state == state

    await until(reached, f"the job is {JobState.Name(state)}")
    return await get(calls, job_id)


def between(earlier: Timestamp, later: Timestamp) -> float:
    """Seconds."""
    return (later.ToNanoseconds() - earlier.ToNanoseconds()) / 1_000_000_000


async def retry_delays(calls: Calls, clock: ManualClock, policy: RetryPolicy) -> list[float]:
    """The seconds after each failure of a job that always fails, until it is dead."""
    job_id = (await push(calls, retry=policy)).job_id
    found: list[float] = []
    while True:
        info = await nack(calls, await reserve(calls))
        if info.state == DEAD:
            assert info.dead_reason == DeadReason.DEAD_REASON_ATTEMPTS_EXHAUSTED
            return found
        found.append(between(info.last_failure.failed_at, info.available_at))
        await clock.advance(round(found[-1] * SECOND))
        await until_state(calls, clock, job_id, READY)


async def test_a_higher_priority_leaves_first(calls: Calls) -> None:
    for priority in (0, -5, 7):
        await push(calls, priority=priority)
    assert [(await reserve(calls)).job.priority for _ in range(3)] == [7, 0, -5]


async def test_a_queue_of_more_weight_comes_first_more_often(calls: Calls) -> None:
    """Without weights the queue that is named first is served alone."""
    jobs = [Job(type="T", queue=queue) for queue in ("light", "heavy") for _ in range(40)]
    await calls.queue.Push(PushRequest(jobs=jobs))
    weighted = [QueueChoice(name="light", weight=1), QueueChoice(name="heavy", weight=1000)]
    served = [(await reserve(calls, *weighted)).job.queue for _ in range(30)]
    assert served.count("heavy") > 25
    strict = [QueueChoice(name="light"), QueueChoice(name="heavy")]
    assert {(await reserve(calls, *strict)).job.queue for _ in range(5)} == {"light"}


async def test_a_delay_and_a_time_are_waited_for(calls: Calls, clock: ManualClock) -> None:
    moment = Timestamp()
    moment.FromMicroseconds(clock.now() + 30 * SECOND)
    for start in ({"delay": seconds(30)}, {"run_at": moment}):
        job_id = (await push(calls, **start)).job_id
        info = await get(calls, job_id)
        assert info.state == SCHEDULED
        assert between(info.enqueued_at, info.available_at) == 30
        moment.FromMicroseconds(clock.now() + 60 * SECOND)
        await clock.advance(30 * SECOND - 1)
        assert (await get(calls, job_id)).state == SCHEDULED
        await clock.advance(1)
        assert (await until_state(calls, clock, job_id, READY)).available_at == info.available_at
        await ack(calls, await reserve(calls))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (RetryPolicy(max_attempts=1), []),
        (RetryPolicy(jitter=0), [1, 2]),
        (
            RetryPolicy(
                max_attempts=4, delays=DelayList(delays=[seconds(10), seconds(30)]), jitter=0
            ),
            [10, 30, 30],
        ),
        (
            RetryPolicy(
                max_attempts=4,
                exponential=ExponentialBackoff(
                    initial=Duration(seconds=2), multiplier=3, max=Duration(seconds=10)
                ),
                jitter=0,
            ),
            [2, 6, 10],
        ),
    ],
    ids=["no retry", "defaults", "list", "exponential"],
)
async def test_attempts_and_delays_are_those_of_the_policy(
    policy: RetryPolicy, expected: list[float], calls: Calls, clock: ManualClock
) -> None:
    assert await retry_delays(calls, clock, policy) == expected


async def test_jitter_spreads_jobs_that_failed_together(calls: Calls) -> None:
    for jitter, least_spread in ((1.0, 1.0), (None, 0.0)):
        policy = RetryPolicy(delays=DelayList(delays=[seconds(10)]), jitter=jitter)
        found = []
        for _ in range(30):
            await push(calls, retry=policy)
            info = await nack(calls, await reserve(calls))
            found.append(between(info.last_failure.failed_at, info.available_at))
        assert min(found) >= 10
        assert 10 + least_spread < max(found) <= 10 * (1 + (0.1 if jitter is None else jitter))


async def test_a_release_may_wait(calls: Calls, clock: ManualClock) -> None:
    await push(calls)
    info = await nack(calls, await reserve(calls), release=Release(delay=seconds(20)))
    assert (info.state, info.attempt, info.releases) == (SCHEDULED, 0, 1)
    assert between(info.last_failure.failed_at, info.available_at) == 20
    await clock.advance(20 * SECOND)
    await until_state(calls, clock, info.job.id, READY)


async def test_a_job_that_was_not_started_in_time_is_dead(calls: Calls, clock: ManualClock) -> None:
    job_id = (await push(calls, expires_in=seconds(5))).job_id
    await clock.advance(5 * SECOND)
    info = await until_state(calls, clock, job_id, DEAD)
    assert info.dead_reason == DeadReason.DEAD_REASON_EXPIRED
    assert between(info.enqueued_at, info.finished_at) == 5


async def test_a_job_is_kept_for_its_retention_and_its_result_for_the_settle_memory(
    calls: Calls, clock: ManualClock
) -> None:
    job_id = (await push(calls, payload=b"p", retention=seconds(60))).job_id
    await ack(calls, await reserve(calls), b"r")
    assert (await get(calls, job_id)).job.payload == b"p"
    await clock.advance(MINUTE)

    async def reduced() -> bool:
        await clock.advance(SECOND)  # forgetting has no moment of its own: it comes at intervals
        return (await get(calls, job_id)).job.payload == b""

    await until(reduced, "the job is reduced to what the settle memory holds")
    info = await get(calls, job_id)
    assert (info.state, info.result) == (JobState.JOB_STATE_SUCCEEDED, b"r")
    await clock.advance(10 * MINUTE)

    async def forgotten() -> bool:
        await clock.advance(SECOND)
        try:
            await get(calls, job_id)
        except grpc.aio.AioRpcError as error:
            return error.code() == grpc.StatusCode.NOT_FOUND
        return False

    await until(forgotten, "the job is forgotten")
    assert (await failure_of(get(calls, job_id))).reason == "JOB_NOT_FOUND"


async def test_a_unique_key_is_held_until_the_job_has_ended(calls: Calls) -> None:
    first = await push(calls, unique_key="k")
    again = await push(calls, unique_key="k")
    assert (again.outcome, again.job_id) == (PushOutcome.PUSH_OUTCOME_EXISTING, first.job_id)
    await ack(calls, await reserve(calls))
    assert (await push(calls, unique_key="k")).outcome == PushOutcome.PUSH_OUTCOME_CREATED


async def test_a_unique_key_may_be_held_for_a_time(calls: Calls, clock: ManualClock) -> None:
    first = await push(calls, unique_key="k", unique_for=seconds(60))
    await ack(calls, await reserve(calls))
    await clock.advance(MINUTE - 1)
    again = await push(calls, unique_key="k")
    assert (again.outcome, again.job_id) == (PushOutcome.PUSH_OUTCOME_EXISTING, first.job_id)
    await clock.advance(1)
    assert (await push(calls, unique_key="k")).outcome == PushOutcome.PUSH_OUTCOME_CREATED
