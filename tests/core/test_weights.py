"""Weights of queues: each comes first in proportion to its own (P6)."""

from random import Random

import pytest

from tests.core.factories import job
from tests.core.manual_clock import ManualClock
from towline_broker.core.broker import Broker
from towline_broker.core.calls import QueueWeight, ReserveCall
from towline_broker.core.queue_options import QueueOptions
from towline_broker.core.routing import Routes
from towline_broker.domain.time import HOUR
from towline_broker.drivers.registry import create_driver


async def test_a_queue_comes_first_in_proportion_to_its_weight(broker: Broker) -> None:
    weights = {"a": 6, "b": 3, "c": 1}
    await broker.jobs.push([job(queue) for queue in weights for _ in range(800)])
    queues = [QueueWeight(name, weight) for name, weight in weights.items()]
    served = dict.fromkeys(weights, 0)
    for _ in range(1000):
        (leased,) = await broker.leasing.reserve(ReserveCall(queues, 1))
        served[leased.ref.queue] += 1
    assert all(abs(served[name] - weight * 100) < 50 for name, weight in weights.items()), served


async def test_a_weighted_queue_that_is_empty_keeps_no_job_back(broker: Broker) -> None:
    await broker.jobs.push([job("b")])
    queues = [QueueWeight("a", 1000), QueueWeight("b", 1)]
    assert len(await broker.leasing.reserve(ReserveCall(queues, 1))) == 1


@pytest.mark.parametrize("max_jobs", [1, 4])
async def test_queues_of_several_stores_and_leases_take_their_turns_too(
    clock: ManualClock, max_jobs: int
) -> None:
    """As one store would: a store that always has jobs keeps those of another waiting no longer."""
    weights = {"first": 1, "other": 1, "long": 1, "often": 3}
    homes = Routes(exact={"other": "second", "often": "second"})
    stores = {"default": create_driver("memory:"), "second": create_driver("memory:")}
    options = {"long": QueueOptions(lease=1 * HOUR)}
    broker = Broker(stores, homes, clock=clock, queue_options=options, rng=Random(7))
    await broker.start()
    try:
        for queue in weights:
            await broker.jobs.push([job(queue) for _ in range(400 * max_jobs)])
        queues = [QueueWeight(name, weight) for name, weight in weights.items()]
        served = dict.fromkeys(weights, 0)
        for number in range(600):
            call = ReserveCall(queues, max_jobs, worker_id="w", request_id=f"r{number}")
            leases = await broker.leasing.reserve(call)
            assert len(leases) == max_jobs
            served[leases[0].ref.queue] += 1
        assert all(abs(served[name] - weight * 100) < 50 for name, weight in weights.items()), (
            served
        )
    finally:
        await broker.stop()
