"""P5, P7, P8, P10: what becomes of a job whose attempt failed, or whose worker vanished."""

from random import Random

import pytest

from tests.core.factories import job, reserve
from tests.core.manual_clock import ManualClock
from towline_broker.core.broker import Broker
from towline_broker.core.calls import (
    AckCall,
    DeadLetter,
    HeartbeatItem,
    LeaseOutcome,
    NackCall,
    Release,
    RetryAfter,
)
from towline_broker.core.retrying import after_failure, base_delay
from towline_broker.domain.jobs import DeadReason, Failure, JobState, Leased
from towline_broker.domain.retry import DelayList, ExponentialBackoff, RetryPolicy
from towline_broker.domain.time import DAY, MINUTE, SECOND

NO_JITTER = RetryPolicy(3, DelayList((10 * SECOND, 30 * SECOND)), jitter=0)
BOOM = Failure("Boom", "it broke")


async def leased_job(broker: Broker, retry: RetryPolicy = NO_JITTER) -> Leased:
    await broker.jobs.push([job(retry=retry)])
    (leased,) = await broker.leasing.reserve(reserve())
    return leased


async def state_of(broker: Broker, leased: Leased) -> tuple[JobState, int]:
    record = await broker.jobs.get(leased.ref.job_id)
    return record.state, record.attempt


async def test_a_failed_job_comes_back_after_each_step_of_its_policy_and_then_is_dead(
    broker: Broker, clock: ManualClock
) -> None:
    leased = await leased_job(broker)
    for delay in (10 * SECOND, 30 * SECOND):
        assert await broker.settling.nack([NackCall(leased.ref, failure=BOOM)]) == [LeaseOutcome.OK]
        await clock.advance(delay - 1)
        assert await broker.leasing.reserve(reserve()) == []
        await clock.advance(1)
        (leased,) = await broker.leasing.reserve(reserve())
    assert leased.attempt == 3
    assert leased.failure is not None
    assert leased.failure.type == "Boom"
    await broker.settling.nack([NackCall(leased.ref, failure=BOOM)])
    record = await broker.jobs.get(leased.ref.job_id)
    assert (record.state, record.dead_reason) == (JobState.DEAD, DeadReason.ATTEMPTS_EXHAUSTED)


async def test_a_worker_may_ask_for_its_own_delay_but_not_for_more_attempts(
    broker: Broker, clock: ManualClock
) -> None:
    leased = await leased_job(broker, RetryPolicy(2))
    await broker.settling.nack([NackCall(leased.ref, RetryAfter(MINUTE))])
    await clock.advance(MINUTE - 1)
    assert await broker.leasing.reserve(reserve()) == []
    await clock.advance(1)
    (leased,) = await broker.leasing.reserve(reserve())
    await broker.settling.nack([NackCall(leased.ref, RetryAfter(MINUTE))])
    assert await state_of(broker, leased) == (JobState.DEAD, 2)


async def test_a_release_gives_the_attempt_back_and_may_wait(
    broker: Broker, clock: ManualClock
) -> None:
    leased = await leased_job(broker)
    await broker.settling.nack([NackCall(leased.ref, Release(5 * SECOND))])
    assert await state_of(broker, leased) == (JobState.SCHEDULED, 0)
    await clock.advance(5 * SECOND)
    assert await state_of(broker, leased) == (JobState.READY, 0)


async def test_a_rejected_job_is_dead_at_once(broker: Broker) -> None:
    leased = await leased_job(broker)
    await broker.settling.nack([NackCall(leased.ref, DeadLetter(), BOOM)])
    record = await broker.jobs.get(leased.ref.job_id)
    assert (record.state, record.dead_reason) == (JobState.DEAD, DeadReason.REJECTED)


async def test_an_orphaned_job_is_back_as_soon_as_its_lease_has_run_out(
    broker: Broker, clock: ManualClock
) -> None:
    leased = await leased_job(broker)
    await clock.advance(30 * SECOND - 1)
    assert await state_of(broker, leased) == (JobState.LEASED, 1)
    await clock.advance(1)
    assert await state_of(broker, leased) == (JobState.READY, 1)
    assert await broker.settling.ack([AckCall(leased.ref)]) == [LeaseOutcome.LEASE_LOST]


async def test_a_job_that_kills_its_workers_ends_dead(broker: Broker, clock: ManualClock) -> None:
    leased = await leased_job(broker, RetryPolicy(2))
    await clock.advance(30 * SECOND)
    (leased,) = await broker.leasing.reserve(reserve())
    await clock.advance(30 * SECOND)
    record = await broker.jobs.get(leased.ref.job_id)
    assert (record.state, record.dead_reason) == (JobState.DEAD, DeadReason.LEASE_EXPIRED)
    assert record.failure is not None
    assert record.failure.type == "LeaseExpired"


async def test_a_heartbeat_keeps_the_lease_and_a_lost_one_is_told(
    broker: Broker, clock: ManualClock
) -> None:
    leased = await leased_job(broker)
    for _ in range(5):
        await clock.advance(20 * SECOND)
        (answer,), _ = await broker.settling.heartbeat("", [HeartbeatItem(leased.ref)])
        assert (answer.outcome, answer.remaining) == (LeaseOutcome.OK, 30 * SECOND)
    await clock.advance(30 * SECOND)
    (answer,), _ = await broker.settling.heartbeat("", [HeartbeatItem(leased.ref)])
    assert answer.outcome is LeaseOutcome.LEASE_LOST


async def test_cancelling_a_running_job_is_heard_at_the_heartbeat_and_spoils_the_ack(
    broker: Broker,
) -> None:
    leased = await leased_job(broker)
    await broker.jobs.cancel([leased.ref.job_id])
    (answer,), _ = await broker.settling.heartbeat("", [HeartbeatItem(leased.ref)])
    assert answer.outcome is LeaseOutcome.CANCELLED
    assert await broker.settling.ack([AckCall(leased.ref)]) == [LeaseOutcome.LEASE_LOST]


async def test_a_repeated_settle_gets_the_same_answer_and_another_one_is_told(
    broker: Broker,
) -> None:
    leased = await leased_job(broker)
    for _ in range(2):
        assert await broker.settling.ack([AckCall(leased.ref)]) == [LeaseOutcome.OK]
    assert await broker.settling.nack([NackCall(leased.ref)]) == [LeaseOutcome.ALREADY_SETTLED]
    unknown = leased.ref._replace(grant="unknown")
    assert await broker.settling.ack([AckCall(unknown)]) == [LeaseOutcome.NOT_FOUND]


async def test_the_settle_memory_ends(broker: Broker, clock: ManualClock) -> None:
    leased = await leased_job(broker)
    await broker.settling.ack([AckCall(leased.ref)])
    await clock.advance(11 * MINUTE)
    assert await broker.settling.ack([AckCall(leased.ref)]) == [LeaseOutcome.NOT_FOUND]


async def test_a_job_that_was_not_started_in_time_is_dead(
    broker: Broker, clock: ManualClock
) -> None:
    (pushed,) = await broker.jobs.push([job(expires_in=5 * SECOND)])
    await clock.advance(5 * SECOND)
    record = await broker.jobs.get(pushed.job_id)
    assert (record.state, record.dead_reason) == (JobState.DEAD, DeadReason.EXPIRED)


class TestDelays:
    def test_the_last_delay_of_a_list_repeats(self) -> None:
        policy = RetryPolicy(9, DelayList((1, 2, 3)))
        assert [base_delay(policy, n) for n in (1, 2, 3, 4, 9)] == [1, 2, 3, 3, 3]

    def test_exponential_grows_to_its_maximum_however_many_failures(self) -> None:
        policy = RetryPolicy(1000, ExponentialBackoff(SECOND, 3, MINUTE))
        assert [base_delay(policy, n) for n in (1, 2, 3)] == [SECOND, 3 * SECOND, 9 * SECOND]
        assert base_delay(policy, 999) == MINUTE
        huge = RetryPolicy(1000, ExponentialBackoff(SECOND, 100.0, 366 * DAY))
        assert base_delay(huge, 999) == 366 * DAY
        at_once = RetryPolicy(1000, ExponentialBackoff(0, 100.0, 366 * DAY))
        assert base_delay(at_once, 999) == 0

    @pytest.mark.parametrize("jitter", [0.0, 0.1, 1.0])
    def test_jitter_only_adds_and_at_most_its_share(self, jitter: float) -> None:
        policy = RetryPolicy(3, DelayList((10 * SECOND,)), jitter)
        rng = Random(1)
        delays = [after_failure(policy, 1, 0, rng).due_at for _ in range(200)]
        assert all(d is not None and 10 * SECOND <= d <= 10 * SECOND * (1 + jitter) for d in delays)
        assert (len(set(delays)) > 1) == (jitter > 0)
