"""P8, P10: who sets the clock forward need not wait for the upkeep to come round."""

from tests.core.factories import job, reserve
from tests.core.manual_clock import ManualClock
from towline_broker.core.broker import Broker
from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import MINUTE


async def test_what_has_fallen_due_is_done_before_it_returns(
    broker: Broker, clock: ManualClock
) -> None:
    leased, delayed, expiring = job(), job(delay=2 * MINUTE), job("rare", expires_in=2 * MINUTE)
    await broker.jobs.push([leased])
    await broker.leasing.reserve(reserve(lease=MINUTE))
    await broker.jobs.push([delayed, expiring])
    clock.not_before(clock.now() + 3 * MINUTE)  # and no timer fires

    await broker.catch_up()

    states = [(await broker.jobs.get(each.id)).state for each in (leased, delayed, expiring)]
    assert states == [JobState.READY, JobState.READY, JobState.DEAD]
