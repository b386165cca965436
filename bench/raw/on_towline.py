"""Towline, by its contract: Push in bytes, and jobs over a Work stream for each connection."""

import asyncio
from typing import Any

import grpc

from bench import messages
from bench.raw.queue import PAYLOAD, Tally
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Lease
from towline.v1.queue_service_pb2_grpc import QueueServiceStub


class Queue:
    def __init__(self, address: str, setting: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._pushes: dict[int, messages.Pushes] = {}
        self._push: messages.Unary = self._channel.unary_unary(f"{messages.SERVICE}/Push")
        self._tally: Tally | None = None
        self._sequence = 0
        #: Of messages that are not answered yet.
        self._asked: dict[int, asyncio.Future[None]] = {}
        #: Somebody waits for one job.
        self._wanted: asyncio.Future[Lease] | None = None

    async def open(self) -> None:
        await self._channel.channel_ready()
        self._call: Any = QueueServiceStub(self._channel).Work()
        opening = pb.WorkOpening(queues=[pb.QueueChoice(name=messages.QUEUE)], worker_id="bench")
        await self._call.write(pb.WorkRequest(open=opening))
        self._reading = asyncio.ensure_future(self._read())

    async def push(self, jobs: int) -> None:
        if jobs not in self._pushes:
            self._pushes[jobs] = messages.Pushes(jobs, len(PAYLOAD))
        await self._push(self._pushes[jobs].next())

    async def work(self, batch: int, tally: Tally) -> None:
        self._tally = tally
        await self._ask(credits=2 * batch)
        await tally.finished.wait()
        await self._ask(withdraw=True)
        self._tally = None

    async def take(self) -> None:
        self._wanted = asyncio.get_running_loop().create_future()
        await self._send(credits=1)
        self._taken = await self._wanted

    async def settle(self) -> None:
        await self._ask(acks=[pb.Ack(lease_token=self._taken.lease_token)])

    async def close(self) -> None:
        self._reading.cancel()
        await self._channel.close()

    async def _read(self) -> None:
        while (answer := await self._call.read()) is not grpc.aio.EOF:
            for result in answer.results:
                self._answered(result)
            if answer.leases and self._tally is None:
                assert self._wanted is not None
                (lease,) = answer.leases
                self._wanted.set_result(lease)
            elif answer.leases:
                acks = [pb.Ack(lease_token=lease.lease_token) for lease in answer.leases]
                await self._send(acks=acks, credits=len(acks))

    def _answered(self, result: pb.WorkResult) -> None:
        if any(ack.outcome != pb.LEASE_OUTCOME_OK for ack in result.acks):
            raise AssertionError(result)
        if self._tally is not None:
            self._tally.done(len(result.acks))
        if asked := self._asked.pop(result.sequence, None):
            asked.set_result(None)

    async def _ask(self, **fields: Any) -> None:
        """Returns when the message was answered."""
        asked = asyncio.get_running_loop().create_future()
        self._asked[self._sequence + 1] = asked
        await self._send(**fields)
        await asked

    async def _send(self, **fields: Any) -> None:
        self._sequence += 1
        await self._call.write(pb.WorkRequest(sequence=self._sequence, **fields))
