"""A hundred jobs pushed, reserved and acknowledged, one call each: beside how many others.

Jobs that wait, are delayed or dead in the same queue; queues with a job each; workers that wait on
another queue. Each number has a broker of its own, and they are asked by turns: the factor is what
the largest number costs beside the smallest.
"""

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import NamedTuple

import grpc

from bench import messages, processes
from bench.attempts import each_store
from bench.connected import workers
from bench.options import Options
from bench.parts.calls import PAYLOAD
from bench.results import Figure, Part
from bench.stores import STORES
from bench.turns import by_turns
from towline.v1 import queue_service_pb2 as pb

BATCH = 100
FILL = 1_000
LATER = 30 * 24 * 3600
#: Of one round; its figure is their mean.
CYCLES = 30
VERBS = ("Push", "Reserve", "Ack")

#: What there is more and more of; how many, and how many with --quick.
SIZES = {
    "waiting": ((1_000, 100_000, 1_000_000), (1_000, 20_000)),
    "delayed": ((1_000, 100_000, 1_000_000), (1_000, 20_000)),
    "dead": ((1_000, 100_000, 1_000_000), (1_000, 10_000)),
    "queues": ((1, 100, 10_000), (1, 1_000)),
    "workers": ((1, 1_000, 10_000), (1, 500)),
}
STORES_HERE = ("memory", "file", "sqlite", "postgresql", "redis")


class Took(NamedTuple):
    """Milliseconds of one call."""

    push: float
    reserve: float
    ack: float


class Broker:
    """One that has something in it already."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._pushes = messages.Pushes(BATCH, PAYLOAD)
        self._push: messages.Unary = channel.unary_unary(f"{messages.SERVICE}/Push")
        self._reserve: messages.Unary = channel.unary_unary(f"{messages.SERVICE}/Reserve")
        self._ack: messages.Unary = channel.unary_unary(f"{messages.SERVICE}/Ack")
        self._nack: messages.Unary = channel.unary_unary(f"{messages.SERVICE}/Nack")

    async def fill(self, kind: str, number: int) -> None:
        if kind in ("waiting", "delayed"):
            pushes = messages.Pushes(FILL, PAYLOAD, LATER if kind == "delayed" else 0)
            for _ in range(number // FILL):
                await self._push(pushes.next())
        elif kind == "dead":
            await self._bury(number)
        elif kind == "queues":
            await self._make_queues(number)

    async def round(self) -> Took:
        """Means of some cycles."""
        cycles = [await self._cycle() for _ in range(CYCLES)]
        return Took(*(sum(column) / CYCLES for column in zip(*cycles, strict=True)))

    async def _cycle(self) -> Took:
        push, reserve = self._pushes.next(), messages.reserve(BATCH)
        began = time.perf_counter()
        await self._push(push)
        pushed = time.perf_counter()
        leases = await self._reserve(reserve)
        reserved = time.perf_counter()
        acks = messages.acks(leases, BATCH)
        asked = time.perf_counter()
        await self._ack(acks)
        acked = time.perf_counter()
        return Took((pushed - began) * 1e3, (reserved - pushed) * 1e3, (acked - asked) * 1e3)

    async def _bury(self, number: int) -> None:
        pushes, reserve = messages.Pushes(FILL, PAYLOAD), messages.reserve(FILL)
        for _ in range(number // FILL):
            await self._push(pushes.next())
            answer = pb.ReserveResponse.FromString(await self._reserve(reserve))
            nacks = [
                pb.Nack(lease_token=lease.lease_token, dead_letter=True) for lease in answer.leases
            ]
            await self._nack(pb.NackRequest(nacks=nacks).SerializeToString())

    async def _make_queues(self, number: int) -> None:
        for start in range(0, number, FILL):
            jobs = [messages.new_job(PAYLOAD) for _ in range(min(FILL, number - start))]
            for place, job in enumerate(jobs, start=start):
                job.queue = f"other-{place}"
            await self._push(pb.PushRequest(jobs=jobs).SerializeToString())


async def measure(addresses: dict[int, str], kind: str, options: Options) -> dict[str, list[Took]]:
    channels = {number: grpc.aio.insecure_channel(at) for number, at in addresses.items()}
    works: dict[str, Callable[[], Awaitable[Took]]] = {}
    try:
        for number, channel in channels.items():
            broker = Broker(channel)
            await broker.fill(kind, number)
            works[f"{number:,}"] = broker.round
        return await by_turns(options.rounds, works)
    finally:
        for channel in channels.values():
            await channel.close()


def run(part: Part, options: Options) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    each_store(part, options, of_store, options.pick(STORES_HERE, quick=("sqlite",)))


def of_store(store: str, part: Part, options: Options) -> None:
    for kind, (many, few) in SIZES.items():
        with ExitStack() as stack:
            folder = stack.enter_context(processes.fresh_folder())
            measured = stack.enter_context(STORES[store](folder))
            addresses = {
                number: stack.enter_context(processes.broker(measured.new_url()))
                for number in options.pick(many, quick=few)
            }
            if kind == "workers":
                for number, address in addresses.items():
                    stack.enter_context(workers(address, number))
            found = asyncio.run(measure(addresses, kind, options))
        for shape, rounds in found.items():
            for verb, took in zip(VERBS, zip(*rounds, strict=True), strict=True):
                part.figures.append(Figure(store, kind, verb, shape, "ms", took))
        options.tell(part.figures[-len(found) * len(VERBS) :])
