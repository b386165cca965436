"""P11: very many calls at the same time are answered, or refused by a clear error."""

import asyncio
from typing import Any

from tests.support.calls import Calls, seconds
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushRequest, QueueChoice, ReserveRequest

#: gRPC's own taste is 1,000 to 3,000.
FLEET = 4_000


async def test_a_fleet_of_workers_may_come_back_all_at_once(calls: Calls) -> None:
    request = ReserveRequest(queues=[QueueChoice(name="q")], wait=seconds(60))
    fleet: list[Any] = [calls.queue.Reserve(request) for _ in range(FLEET)]
    await asyncio.sleep(0)  # the calls are on their way before the broker has a turn
    await calls.queue.Push(PushRequest(jobs=[Job(type="T", queue="q")]))
    workers = [asyncio.ensure_future(call) for call in fleet]
    done, _ = await asyncio.wait(workers, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    assert [len(worker.result().leases) for worker in done] == [1]
    for call in fleet:
        call.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
