"""Producers that push at a rate, whatever becomes of it, and workers: each a process of its own.

    python -m tests.faults.overload_clients producers ADDRESS --rate 100 --seconds 10
    python -m tests.faults.overload_clients workers ADDRESS

What they saw is on standard output, a line for each of their calls: when it was begun, how long it
took, how it ended, and the ids of its jobs. Workers end at SIGTERM.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc

from towline.v1 import queue_service_pb2 as pb
from towline.v1 import queue_service_pb2_grpc as rpc
from towline.v1.job_pb2 import Job

QUEUE = "overload"
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", -1),
]
#: Seconds that a producer gives a push, and a worker an Ack.
PATIENCE = 5.0
#: Pushes that wait for their answers at one connection; more are not begun, and counted so.
MOST_WAITING = 100


class Diary:
    """Lines are kept until the end: writing them must not slow down what is measured."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def note(self, what: str, began: float, code: str, ids: list[str]) -> None:
        took = time.monotonic() - began
        self._lines.append(f"{what} {began:.6f} {took:.6f} {code} {','.join(ids)}\n")

    def write(self) -> None:
        sys.stdout.write("".join(self._lines))
        sys.stdout.flush()


async def timed(
    diary: Diary, what: str, call: Callable[[], Awaitable[Any]], ids: Callable[[Any], list[str]]
) -> Any:
    """The reply, None if the call failed."""
    began = time.monotonic()
    try:
        reply = await call()
    except grpc.aio.AioRpcError as error:
        diary.note(what, began, error.code().name, [])
        return None
    diary.note(what, began, "OK", ids(reply))
    return reply


class Producers:
    """``concurrency`` of them, each of which waits for its answer, or a rate of pushes."""

    def __init__(self, diary: Diary, address: str, batch: int, connections: int) -> None:
        self._diary = diary
        channels = [
            grpc.aio.insecure_channel(address, [*OPTIONS, ("number", number)])
            for number in range(connections)
        ]
        self.channels = channels
        self._pushes: list[Any] = [
            channel.unary_unary("/towline.v1.QueueService/Push") for channel in channels
        ]
        self._waiting = [0] * connections
        job = Job(queue=QUEUE, type="Load", payload=b"p" * 200)
        job.retry.max_attempts = 1_000
        self._request = pb.PushRequest(jobs=[job] * batch).SerializeToString()

    async def at_concurrency(self, concurrency: int, until: float) -> None:
        async def one(number: int) -> None:
            while time.monotonic() < until:
                if not await self._push(number):
                    await asyncio.sleep(0.05)

        await asyncio.gather(*(one(n % len(self._pushes)) for n in range(concurrency)))

    async def at_rate(self, rate: float, until: float) -> None:
        """So many calls a second, evenly, at all connections in turn."""
        began, sent, tasks = time.monotonic(), 0, set()
        while (now := time.monotonic()) < until:
            due = int((now - began) * rate)
            for number in range(sent, due):
                place = number % len(self._pushes)
                if self._waiting[place] >= MOST_WAITING:
                    self._diary.note("push", now, "NOT_BEGUN", [])
                    continue
                task = asyncio.ensure_future(self._push(place))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            sent = due
            await asyncio.sleep(0.01)
        if tasks:
            await asyncio.wait(tasks)

    async def _push(self, place: int) -> bool:
        self._waiting[place] += 1
        push = self._pushes[place]
        call = partial(push, self._request, timeout=PATIENCE)
        reply = await timed(self._diary, "push", call, _pushed)
        self._waiting[place] -= 1
        return reply is not None


def _pushed(raw: bytes) -> list[str]:
    return [result.job_id for result in pb.PushResponse.FromString(raw).results]


async def work(
    diary: Diary, stub: "rpc.QueueServiceAsyncStub", batch: int, stop: asyncio.Event
) -> None:
    request = pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)], max_jobs=batch)
    request.wait.FromMilliseconds(500)
    request.lease.FromSeconds(60)
    while not stop.is_set():
        reserve = partial(stub.Reserve, request, timeout=30)
        reply = await timed(diary, "reserve", reserve, lambda _: [])
        if reply is None or not reply.leases:
            await asyncio.sleep(0.01)
            continue
        ids = [lease.job.id for lease in reply.leases]
        acks = pb.AckRequest(acks=[pb.Ack(lease_token=lease.lease_token) for lease in reply.leases])
        ack = partial(stub.Ack, acks, timeout=PATIENCE)
        # Also once it is told to stop: an Ack whose answer was late may be done.
        while await timed(diary, "ack", ack, _settled(ids)) is None:
            pass


def _settled(ids: list[str]) -> Callable[[Any], list[str]]:
    def of(reply: pb.AckResponse) -> list[str]:
        done = (pb.LEASE_OUTCOME_OK, pb.LEASE_OUTCOME_ALREADY_SETTLED)
        return [
            job_id
            for job_id, result in zip(ids, reply.results, strict=True)
            if result.outcome in done
        ]

    return of


async def run_producers(diary: Diary, options: argparse.Namespace) -> None:
    producers = Producers(diary, options.address, options.batch, options.connections)
    until = time.monotonic() + options.seconds
    if options.rate:
        await producers.at_rate(options.rate, until)
    else:
        await producers.at_concurrency(options.concurrency, until)
    for channel in producers.channels:
        await channel.close()


async def run_workers(diary: Diary, options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with grpc.aio.insecure_channel(options.address, OPTIONS) as channel:
        stub: Any = rpc.QueueServiceStub(channel)
        await asyncio.gather(
            *(work(diary, stub, options.batch, stop) for _ in range(options.concurrency))
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["producers", "workers"])
    parser.add_argument("address")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    diary = Diary()
    runs = {"producers": run_producers, "workers": run_workers}
    asyncio.run(runs[options.kind](diary, options))
    diary.write()


if __name__ == "__main__":
    main()
