"""Weights of queues: each comes first in proportion to its own (P6)."""

from tests.core.factories import job
from towline_broker.core.broker import Broker
from towline_broker.core.calls import QueueWeight, ReserveCall


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
