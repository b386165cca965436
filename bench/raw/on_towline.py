"""Towline, by calls of its contract in bytes."""

import grpc

from bench import messages
from bench.raw.queue import PAYLOAD, Tally
from towline.v1 import queue_service_pb2 as pb


class Queue:
    def __init__(self, address: str, setting: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._pushes: dict[int, messages.Pushes] = {}
        waiting = pb.ReserveRequest(queues=[pb.QueueChoice(name=messages.QUEUE)], max_jobs=1)
        waiting.wait.FromSeconds(20)
        self._wait_request = waiting.SerializeToString()
        self._push: messages.Unary = self._channel.unary_unary(f"{messages.SERVICE}/Push")
        self._reserve: messages.Unary = self._channel.unary_unary(f"{messages.SERVICE}/Reserve")
        self._ack: messages.Unary = self._channel.unary_unary(f"{messages.SERVICE}/Ack")

    async def open(self) -> None:
        await self._channel.channel_ready()

    async def push(self, jobs: int) -> None:
        if jobs not in self._pushes:
            self._pushes[jobs] = messages.Pushes(jobs, len(PAYLOAD))
        await self._push(self._pushes[jobs].next())

    async def work(self, batch: int, tally: Tally) -> None:
        request = messages.reserve(batch)
        while not tally.finished.is_set():
            await self._settle(await self._reserve(request), tally)

    async def take(self) -> None:
        self._taken = await self._reserve(self._wait_request)

    async def settle(self) -> None:
        await self._settle(self._taken, None)

    async def _settle(self, answer: bytes, tally: Tally | None) -> None:
        leases = pb.ReserveResponse.FromString(answer).leases
        if not leases:
            return
        acks = pb.AckRequest(acks=[pb.Ack(lease_token=lease.lease_token) for lease in leases])
        messages.check_acked(await self._ack(acks.SerializeToString()))
        if tally is not None:
            tally.done(len(leases))

    async def close(self) -> None:
        await self._channel.close()
