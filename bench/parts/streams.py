"""PushStream and Work, one job a message, beside an empty server that gives answers of the same
size. Each client has a stream of its own and one message under way on it; all go over one
connection, to the broker as to the empty server."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any

import grpc

from bench import messages, processes
from bench.attempts import each_store
from bench.options import Options
from bench.parts.calls import PAYLOAD
from bench.results import Figure, Part
from bench.stores import STORES
from bench.turns import by_turns
from towline.v1 import queue_service_pb2 as pb
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

CLIENTS = (1, 8, 64)
QUICK = (8,)


class Streams:
    """To a broker or the echo."""

    def __init__(self, channel: grpc.aio.Channel, clients: int) -> None:
        self._clients = clients
        self._pushes = messages.Pushes(1, PAYLOAD)
        stub = QueueServiceStub(channel)
        self._push_stream: Any = stub.PushStream
        self._work: Any = stub.Work
        self._left = 0

    async def round(self, seconds: float) -> tuple[float, float]:
        """Jobs a second of pushing for so long, and of working off what was pushed."""
        began = time.perf_counter()
        jobs = await self.push(seconds)
        pushed = time.perf_counter()
        await self.work_off()
        return jobs / (pushed - began), jobs / (time.perf_counter() - pushed)

    async def push(self, seconds: float) -> int:
        """How many jobs that was."""
        self._left = await self._together(lambda: self._push_for(seconds))
        return self._left

    async def work_off(self) -> int:
        """All that was pushed."""
        return await self._together(self._work_through)

    async def _together(self, one: Callable[[], Awaitable[int]]) -> int:
        return sum(await asyncio.gather(*(one() for _ in range(self._clients))))

    async def _push_for(self, seconds: float) -> int:
        call = self._push_stream()
        began = time.perf_counter()
        for sequence in count(1):
            push = pb.StreamedPush(
                sequence=sequence, request=pb.PushRequest.FromString(self._pushes.next())
            )
            await call.write(pb.PushStreamRequest(pushes=[push]))
            answer = await call.read()
            if answer.results[0].WhichOneof("outcome") != "response":
                raise AssertionError(f"a push was refused: {answer}")
            if time.perf_counter() - began > seconds:
                break
        await call.done_writing()
        return sequence

    async def _work_through(self) -> int:
        """A job at a time: its ack goes with the credit for the next."""
        call = self._work()
        opening = pb.WorkOpening(queues=[pb.QueueChoice(name=messages.QUEUE)])
        opening.lease.FromSeconds(600)
        done = 0
        self._left -= 1
        if self._left < 0:
            call.cancel()
            return 0
        await call.write(pb.WorkRequest(open=opening, credits=1))
        for sequence in count(1):
            lease = await _lease(call)
            more = self._left > 0
            self._left -= 1
            ack = pb.Ack(lease_token=lease.lease_token)
            await call.write(pb.WorkRequest(sequence=sequence, acks=[ack], credits=int(more)))
            done += 1
            if not more:
                break
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass  # the last results
        return done


async def _lease(call: Any) -> Any:
    """The next one; results come before, with it or after it."""
    while True:
        answer = await call.read()
        if answer is grpc.aio.EOF:
            raise AssertionError("the stream has ended")
        if answer.leases:
            return answer.leases[0]


async def measure(
    addresses: Mapping[str, str], clients: int, options: Options
) -> dict[str, list[tuple[float, float]]]:
    seconds = options.pick(0.5, quick=0.15)
    channels = {who: grpc.aio.insecure_channel(at) for who, at in addresses.items()}

    def turn(channel: grpc.aio.Channel) -> Callable[[], Awaitable[tuple[float, float]]]:
        streams = Streams(channel, clients)
        return lambda: streams.round(seconds)

    try:
        works = {who: turn(channel) for who, channel in channels.items()}
        return await by_turns(options.rounds, works)
    finally:
        for channel in channels.values():
            await channel.close()


def run(part: Part, options: Options) -> None:
    each_store(part, options, of_store)


def of_store(store: str, part: Part, options: Options) -> None:
    for clients in options.pick(CLIENTS, quick=QUICK):
        with (
            processes.fresh_folder() as folder,
            STORES[store](folder) as measured,
            processes.echo(1, PAYLOAD) as echo,
            processes.broker(measured.new_url()) as broker,
        ):
            addresses = {"echo": echo, "broker": broker}
            found = asyncio.run(measure(addresses, clients, options))
        for who, rounds in found.items():
            pushed, worked = zip(*rounds, strict=True)
            shape = f"1 x {clients}"
            part.figures.append(Figure(store, who, "PushStream", shape, "jobs/s", pushed))
            part.figures.append(Figure(store, who, "Work", shape, "jobs/s", worked))
        options.tell(part.figures[-4:])
