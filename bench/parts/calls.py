"""Push, and Reserve with Ack, through gRPC: beside an empty server that gives answers of the same
size to the same calls, and beside the bare store, used as a simple queue without Towline and gRPC.

The bare store is no bound: its statements are plain, and each call is a transaction or a script of
its own (over files calls share a sync), where the broker joins small calls that come together. So a
share of it can be above 1.

One client process makes all calls over one connection, to the broker as to the empty server:
``clients`` are callers that wait for their answer, and that many calls are under way. Each round
pushes for a while and then works off what it has pushed. A Push that the broker refuses, because
jobs come faster than it can store them, is made again, and the time of that counts; how many there
were is said below. The processor's time is that of the broker.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import grpc
import psutil  # type: ignore[import-untyped]  # it has no types

from bench import messages, processes
from bench.attempts import each_store
from bench.bare import BareStore
from bench.options import Options
from bench.results import Figure, Part
from bench.stores import STORES
from bench.turns import by_turns

PAYLOAD = 250
#: Seconds until a call is made again that was refused because there are too many.
REFUSED_PAUSE = 0.05
#: How such a refusal is told from one that lasts, as that of a full store.
REFUSED_FOR_NOW = b"BROKER_BUSY"


class Shape(NamedTuple):
    batch: int
    clients: int

    def __str__(self) -> str:
        return f"{self.batch} x {self.clients}"


ALL = [Shape(batch, clients) for batch in (1, 10, 100, 1_000) for clients in (1, 8, 64)]
QUICK = [Shape(1, 64), Shape(100, 8)]


class Subject(Protocol):
    """What jobs are given to and taken from."""

    refused: int
    """So many times it would not take them, and was asked again."""

    async def push(self) -> None: ...

    async def work(self) -> None: ...


class Calls:
    """To a broker or the echo, in bytes."""

    def __init__(self, channel: grpc.aio.Channel, batch: int) -> None:
        self._batch = batch
        self._pushes = messages.Pushes(batch, PAYLOAD)
        self._reserve_request = messages.reserve(batch)
        self._push: messages.Unary = channel.unary_unary(f"{messages.SERVICE}/Push")
        self._reserve: messages.Unary = channel.unary_unary(f"{messages.SERVICE}/Reserve")
        self._ack: messages.Unary = channel.unary_unary(f"{messages.SERVICE}/Ack")
        #: So many times was a Push refused.
        self.refused = 0

    async def push(self) -> None:
        """A broker that falls behind refuses calls for a moment: it is asked again, as clients do,
        and that takes its time."""
        request = self._pushes.next()
        while True:
            try:
                await self._push(request)
            except grpc.aio.AioRpcError as error:
                if not _busy(error):
                    raise
                self.refused += 1
                await asyncio.sleep(REFUSED_PAUSE)
            else:
                return

    async def work(self) -> None:
        leases = await self._reserve(self._reserve_request)
        messages.check_acked(await self._ack(messages.acks(leases, self._batch)))


def _busy(error: grpc.aio.AioRpcError) -> bool:
    return any(
        name == "grpc-status-details-bin" and REFUSED_FOR_NOW in value
        for name, value in error.trailing_metadata() or ()
    )


class Bare:
    refused = 0

    def __init__(self, store: BareStore, batch: int) -> None:
        self._store = store
        self._batch = batch
        self._envelopes = [messages.new_job(PAYLOAD).SerializeToString()] * batch

    async def push(self) -> None:
        await self._store.insert(self._envelopes)

    async def work(self) -> None:
        keys = await self._store.claim(self._batch)
        if len(keys) != self._batch:
            raise AssertionError(f"claimed {len(keys)} of {self._batch}")
        await self._store.delete(keys)


class Round(NamedTuple):
    pushed: float
    """Jobs a second."""
    worked: float
    push_cost: float
    """Microseconds of the processor for each job; 0 where nobody asked."""
    work_cost: float
    calls: int
    """Pushes that were accepted."""
    refused: int
    """How often one was made again."""


async def round_of(
    subject: Subject, shape: Shape, seconds: float, process: psutil.Process | None
) -> Round:
    """Pushes for so many seconds, and works off what was pushed."""
    refused, before = subject.refused, _used(process)
    calls, push_took = await _repeat(subject.push, shape.clients, seconds, None)
    between = _used(process)
    _, work_took = await _repeat(subject.work, shape.clients, None, calls)
    after = _used(process)
    jobs = calls * shape.batch
    return Round(
        jobs / push_took,
        jobs / work_took,
        (between - before) / jobs * 1e6,
        (after - between) / jobs * 1e6,
        calls,
        subject.refused - refused,
    )


async def _repeat(
    call: Callable[[], Awaitable[None]], clients: int, seconds: float | None, times: int | None
) -> tuple[int, float]:
    """How often it was called, and how long that took."""
    start = time.perf_counter()
    begun = 0

    async def client() -> None:
        nonlocal begun
        while begun < times if times is not None else time.perf_counter() - start < (seconds or 0):
            begun += 1
            await call()

    await asyncio.gather(*(client() for _ in range(clients)))
    return begun, time.perf_counter() - start


def _used(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(
    addresses: Mapping[str, str], bare: BareStore, broker: int, shape: Shape, options: Options
) -> dict[str, list[Round]]:
    seconds = options.pick(0.4, quick=0.15)
    channels = {
        who: grpc.aio.insecure_channel(at, options=[("grpc.max_receive_message_length", -1)])
        for who, at in addresses.items()
    }
    subjects: dict[str, Subject] = {
        who: Calls(channel, shape.batch) for who, channel in channels.items()
    }
    subjects["bare"] = Bare(bare, shape.batch)
    process = psutil.Process(broker)

    def turn(who: str) -> Callable[[], Awaitable[Round]]:
        asked = process if who == "broker" else None
        return lambda: round_of(subjects[who], shape, seconds, asked)

    await bare.open()
    try:
        return await by_turns(options.rounds, {who: turn(who) for who in subjects})
    finally:
        for channel in channels.values():
            await channel.close()
        await bare.close()


def figures(store: str, shape: Shape, found: Mapping[str, list[Round]]) -> list[Figure]:
    figures = []
    for who, rounds in found.items():
        columns = list(zip(*rounds, strict=True))
        for what, rate, cost in (("Push", 0, 2), ("Reserve + Ack", 1, 3)):
            note = refusals(rounds) if what == "Push" else ""
            figures.append(Figure(store, who, what, str(shape), "jobs/s", columns[rate], note))
            if who == "broker":
                figures.append(Figure(store, who, f"{what}, CPU", str(shape), "µs", columns[cost]))
    return figures


def refusals(rounds: Sequence[Round]) -> str:
    """A sentence about them; empty if there were none."""
    refused = sum(each.refused for each in rounds)
    calls = sum(each.calls for each in rounds)
    return f"{refused:,} refusals of {calls:,} calls, which were made again" if refused else ""


def run(part: Part, options: Options) -> None:
    each_store(part, options, of_store)


def of_store(store: str, part: Part, options: Options) -> None:
    for shape in options.pick(ALL, quick=QUICK):
        with (
            processes.fresh_folder() as folder,
            STORES[store](folder) as measured,
            processes.echo(shape.batch, PAYLOAD) as echo,
            processes.broker_process(measured.new_url()) as (broker, pid),
        ):
            addresses = {"echo": echo, "broker": broker}
            found = asyncio.run(measure(addresses, measured.new_bare(), pid, shape, options))
        part.figures.extend(figures(store, shape, found))
        part.missing.extend(
            f"{store}, {each.what}, {each.shape} without refusals: {each.note}"
            for each in part.figures[-8:]
            if each.note
        )
        options.tell(part.figures[-8:])
