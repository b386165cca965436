"""A broker that has work to do while its store is copied."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.calls import Calls
from tests.support.waiting import until
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Job
from towline_broker.testing import new_id


class Load:
    """Producers and a worker, for as long as the context lasts."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        #: Whose push was begun, was answered, and whose settling was begun.
        self.begun: set[str] = set()
        self.pushed: set[str] = set()
        self.settled: set[str] = set()
        self.rounds = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        tasks = [asyncio.ensure_future(self._produce()), asyncio.ensure_future(self._work())]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended

    async def _produce(self) -> None:
        while True:
            ids = [new_id() for _ in range(20)]
            self.begun.update(ids)
            jobs = [Job(id=id_, queue="q", type="T", payload=os.urandom(500)) for id_ in ids]
            await self._calls.queue.Push(pb.PushRequest(jobs=jobs), timeout=20)
            self.pushed.update(ids)
            self.rounds += 1

    async def _work(self) -> None:
        request = pb.ReserveRequest(queues=[pb.QueueChoice(name="q")], max_jobs=15)
        while True:
            # Jobs are left for the copy.
            if len(self.pushed) - len(self.settled) < 100:
                await asyncio.sleep(0.01)
                continue
            leases = (await self._calls.queue.Reserve(request, timeout=20)).leases
            self.settled.update(lease.job.id for lease in leases)
            acks = [pb.Ack(lease_token=lease.lease_token) for lease in leases]
            await self._calls.queue.Ack(pb.AckRequest(acks=acks), timeout=20)

    async def more(self, rounds: int = 20) -> None:
        enough = self.rounds + rounds

        async def enough_were_pushed() -> bool:
            return self.rounds >= enough

        await until(enough_were_pushed, f"{rounds} batches pushed")
