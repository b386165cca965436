"""Towline, by its contract: Push in bytes, and jobs over a Work stream for each connection."""

import asyncio
from typing import Any

import grpc

from bench import messages
from bench.raw.queue import PAYLOAD, Tally
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Lease
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

#: Else all channels of a process that lead to one place share a connection.
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


class Queue:
    """A broker closes streams of some age, and clients here live longer: another one takes the
    place of the first. A reader that fails takes all with it that waits for what it would read."""

    def __init__(self, address: str, setting: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=OWN_CONNECTION)
        self._stub = QueueServiceStub(self._channel)
        self._pushes: dict[int, messages.Pushes] = {}
        self._push: messages.Unary = self._channel.unary_unary(f"{messages.SERVICE}/Push")
        self._tally: Tally | None = None
        #: Leases that a stream may have under way, when the tally is worked off.
        self._credits = 0
        self._sequence = 0
        #: Of messages that are not answered yet.
        self._asked: dict[int, asyncio.Future[None]] = {}
        #: Somebody waits for one job.
        self._wanted: asyncio.Future[Lease] | None = None
        #: One for each stream that has not ended.
        self._reading: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None
        #: How many streams have been opened.
        self.streams = 0

    async def open(self) -> None:
        await self._channel.channel_ready()
        await self._open_stream()

    async def push(self, jobs: int) -> None:
        if jobs not in self._pushes:
            self._pushes[jobs] = messages.Pushes(jobs, len(PAYLOAD))
        await self._push(self._pushes[jobs].next())

    async def work(self, batch: int, tally: Tally) -> None:
        self._tally, self._credits = tally, 2 * batch
        await self._ask(credits=self._credits)
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
        for reading in self._reading:
            reading.cancel()
        await self._channel.close()

    async def _open_stream(self) -> None:
        call: Any = self._stub.Work()
        opening = pb.WorkOpening(queues=[pb.QueueChoice(name=messages.QUEUE)], worker_id="bench")
        await call.write(pb.WorkRequest(open=opening))
        self._call = call
        self.streams += 1
        reading = asyncio.ensure_future(self._read(call))
        self._reading.add(reading)
        reading.add_done_callback(self._read_all)

    async def _read(self, call: Any) -> None:
        while (answer := await call.read()) is not grpc.aio.EOF:
            for result in answer.results:
                self._answered(result)
            if answer.leases and self._tally is None:
                assert self._wanted is not None
                (lease,) = answer.leases
                self._wanted.set_result(lease)
            elif answer.leases:
                acks = [pb.Ack(lease_token=lease.lease_token) for lease in answer.leases]
                await self._send(acks=acks, credits=len(acks))
            if answer.closing:
                await self._replace(call)
        if call is self._call:
            raise AssertionError("the stream has ended")

    async def _replace(self, call: Any) -> None:
        """By a stream with the credits that the broker has not made use of."""
        await self._open_stream()
        if self._tally is not None:
            await self._send(credits=self._credits)
        elif self._wanted is not None and not self._wanted.done():
            await self._send(credits=1)
        await call.done_writing()

    def _read_all(self, reading: "asyncio.Task[None]") -> None:
        self._reading.discard(reading)
        if reading.cancelled() or (error := reading.exception()) is None:
            return
        self._broken = error
        for waiting in (*self._asked.values(), self._wanted):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
        if self._tally is not None:
            self._tally.finished.set()  # who waits for it finds the queue broken

    def _answered(self, result: pb.WorkResult) -> None:
        if result.HasField("error"):
            raise AssertionError(result)
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
        """Over the newest stream. Raises what has ended a stream."""
        if self._broken is not None:
            raise self._broken
        self._sequence += 1
        await self._call.write(pb.WorkRequest(sequence=self._sequence, **fields))
