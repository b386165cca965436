"""Where processor time goes: 100 jobs a call with 8 clients, one job a call with 64, and one job a
message on 8 streams; beside it what an empty server takes for the same, and what clients and the
server of a store take, which share the cores with the broker.

The kernel tells what each thread has used, and py-spy what those of Python did: each look from
outside counts for the room of our code, or the library, whose function it meets innermost. A look
halts the broker, 200 times a second, so what is under them costs more: the empty server, the whole
broker and what is beside it are without, the broker under py-spy and its rooms, which add up to it,
in a round of their own. A round pushes for a while, and works off what it has pushed.

What is ours is the sum of the rooms but gRPC, its event loop and threads.

The last two rows of each store are shares, not times: what the empty server and its clients take of
the processor, of what the broker, its clients and the server of its store take together, and the
same if our code took nothing. That would be the share of the echo if the cores, which all of them
have in common, were never idle.
"""

import asyncio
import re
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import grpc
import psutil  # type: ignore[import-untyped]  # it has no types

from bench import processes
from bench.attempts import attempt, each_store
from bench.options import Options
from bench.parts.calls import PAYLOAD, Calls, Shape
from bench.parts.streams import Streams
from bench.report.flames import write_flames
from bench.results import Figure, Part
from bench.stores import STORES

PROGRAM = Path(".venv-peers") / "bin" / "py-spy"
STORES_HERE = ("memory", "file", "sqlite", "postgresql", "redis")
SHAPES = (Shape(100, 8), Shape(1, 64))
STREAMS = Shape(1, 8)
#: Looks a second.
RATE = 200
#: Of the first shape, over this store.
DRAWN = "file"
GRAPHS = {"Push": "flame-push.svg", "Reserve + Ack": "flame-work.svg"}
#: What is no room of ours.
TRANSPORT = ("gRPC and event loop", "threads of gRPC")
#: Work of one kind by all clients: how many jobs that was.
Work = Callable[[], Awaitable[int]]
#: One kind after the other, over a channel.
Works = Callable[[grpc.aio.Channel], Iterator[tuple[str, Work]]]
#: How py-spy begins a stack: with the id that the kernel has for its thread.
_THREAD = re.compile(r"thread \((\d+)\): ")

_ROOMS = (
    (re.compile(r"towline_broker/drivers/(\w+)"), "drivers: {}"),
    (re.compile(r"towline_broker/(\w+)"), "{}"),
    (re.compile(r"towline/v1|google/protobuf"), "messages"),
    (re.compile(r"grpc"), "gRPC and event loop"),
    (re.compile(r"asyncio|uvloop"), "gRPC and event loop"),
    (re.compile(r"concurrent/|threading|queue\.py"), "threads"),
)


def run(part: Part, options: Options) -> None:
    if not PROGRAM.exists():
        part.missing.append(f"no {PROGRAM}: `make bench-peers` brings it")
        return
    each_store(part, options, of_store, options.pick(STORES_HERE, quick=(DRAWN,)))


def of_store(store: str, part: Part, options: Options) -> None:
    first = len(part.figures)
    seconds = options.pick(5.0, quick=0.7)
    works = {str(shape): partial(calls, part, shape, seconds) for shape in SHAPES}
    works[f"{STREAMS}, streams"] = partial(streams, STREAMS, seconds)
    for name, work in works.items():
        with (
            attempt(part, f"{store}, {name}"),
            processes.fresh_folder() as folder,
            STORES[store](folder) as measured,
            processes.broker_process(measured.new_url()) as broker,
            processes.echo_process(
                SHAPES[0].batch if name == str(SHAPES[0]) else 1, PAYLOAD
            ) as echo,
        ):
            profile = Profile(part, store, name, folder)
            try:
                asyncio.run(profile.of_echo(*echo, work))
                asyncio.run(profile.of_broker(*broker, work, beside=echo[1]))
            except NoLook as error:
                part.missing.append(f"no profile: {error}")
            if store == DRAWN and name == str(SHAPES[0]) and not options.quick:
                profile.draw()
    options.tell(part.figures[first:])


def calls(
    part: Part, shape: Shape, seconds: float, channel: grpc.aio.Channel
) -> Iterator[tuple[str, Work]]:
    asked = Calls(channel, shape.batch)
    pushed = 0

    async def push() -> bool:
        nonlocal pushed
        await asked.push()
        pushed += 1
        return True

    async def work() -> bool:
        nonlocal pushed
        pushed -= 1
        if pushed < 0:
            return False
        await asked.work()
        return True

    yield "Push", lambda: repeat(push, shape, seconds)
    if asked.refused:
        told = f"{asked.refused:,} refusals of {pushed:,} calls, which were made again"
        part.missing.append(f"Push, {shape} without refusals: {told}")
    yield "Reserve + Ack", lambda: repeat(work, shape, seconds)


async def repeat(call: Callable[[], Awaitable[bool]], shape: Shape, seconds: float) -> int:
    """Until it says that there is nothing left, or the time is over: how many jobs that was."""
    began = time.perf_counter()

    async def client() -> int:
        done = 0
        while time.perf_counter() - began < seconds and await call():
            done += shape.batch
        return done

    return sum(await asyncio.gather(*(client() for _ in range(shape.clients))))


def streams(shape: Shape, seconds: float, channel: grpc.aio.Channel) -> Iterator[tuple[str, Work]]:
    asked = Streams(channel, shape.clients)
    yield "PushStream", lambda: asked.push(seconds)
    yield "Work", asked.work_off


class NoLook(Exception):
    """py-spy may not look at another process here."""


class Profile:
    """Of work over a store."""

    def __init__(self, part: Part, store: str, shape: str, folder: Path) -> None:
        self._part = part
        self._store = store
        self._shape = shape
        self._folder = folder
        self._stacks: dict[str, list[str]] = {}

    async def of_echo(self, address: str, pid: int, works: Works) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            for what, work in works(channel):
                before, own = Used.of(pid), time.process_time()
                jobs = await work()
                self._add("empty server", what, Used.of(pid).since(before).all / jobs)
                self._add("its clients", what, (time.process_time() - own) / jobs)

    async def of_broker(self, address: str, pid: int, works: Works, *, beside: int) -> None:
        """``beside``: the process that is neither the broker nor of the store."""
        async with grpc.aio.insecure_channel(address) as channel:
            for what, work in works(channel):
                before, own, store = Used.of(pid), time.process_time(), _others(pid, beside)
                jobs = await work()
                self._add("whole broker", what, Used.of(pid).since(before).all / jobs)
                self._add("clients of the broker", what, (time.process_time() - own) / jobs)
                if used := _others(pid, beside) - store:
                    self._add("server of the store", what, used / jobs)
        async with grpc.aio.insecure_channel(address) as channel:
            for what, work in works(channel):
                looking, before = Looking(pid, self._folder / "stacks.txt"), Used.of(pid)
                jobs = await work()
                used_by = Used.of(pid).since(before)
                self._stacks[what] = looking.end()
                self._add("broker under py-spy", what, used_by.all / jobs)
                rooms = costs(self._stacks[what], used_by)
                ours = sum(seconds for room, seconds in rooms if room not in TRANSPORT)
                self._add("of it ours", what, ours / jobs)
                for room, seconds in rooms:
                    self._add(room, what, seconds / jobs)

    def draw(self) -> None:
        for what, stacks in self._stacks.items():
            title = f"{what}, {self._shape} clients, {self._store} store"
            write_flames(
                Path("docs") / GRAPHS[what], title, [_THREAD.sub("", each) for each in stacks]
            )

    def _add(self, who: str, what: str, seconds: float) -> None:
        figure = Figure(self._store, who, what, self._shape, "µs", [seconds * 1e6])
        self._part.figures.append(figure)


def _others(*pids: int) -> float:
    """Seconds of the processor of the processes that were started here, without these."""
    used = 0.0
    for process in psutil.Process().children(recursive=True):
        if process.pid not in pids:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used += times.user + times.system
    return used


@dataclass(frozen=True)
class Used:
    """Seconds of the processor: of a process, and of each of its threads."""

    all: float
    threads: Mapping[int, float]

    @classmethod
    def of(cls, pid: int) -> Self:
        process = psutil.Process(pid)
        times = process.cpu_times()
        threads = {each.id: each.user_time + each.system_time for each in process.threads()}
        return cls(times.user + times.system, threads)

    def since(self, before: Self) -> "Used":
        threads = {one: used - before.threads.get(one, 0) for one, used in self.threads.items()}
        return Used(self.all - before.all, threads)


def costs(stacks: list[str], used: Used) -> list[tuple[str, float]]:
    """Seconds of each room, the most first: what a thread has used is shared out by the looks at
    it. What the threads have used that are not of Python is gRPC's."""
    looks: dict[int, Counter[str]] = {}
    for stack in stacks:
        frames, _, number = stack.rpartition(" ")
        if thread := _THREAD.match(frames):
            rooms = looks.setdefault(int(thread[1]), Counter())
            rooms[_room(frames.split(";"))] += int(number)
    found: defaultdict[str, float] = defaultdict(float)
    rest = used.all
    for one, rooms in looks.items():
        seconds = used.threads.get(one, 0.0)
        rest -= seconds
        for room, times in rooms.items():
            found[room] += seconds * times / rooms.total()
    found["threads of gRPC"] = max(0.0, rest)
    return sorted(found.items(), key=lambda each: -each[1])


def _room(frames: list[str]) -> str:
    """Of the innermost frame that is of a room; what the standard library does is its caller's."""
    for frame in reversed(frames):
        for pattern, name in _ROOMS:
            if found := pattern.search(frame):
                return name.format(*found.groups())
    return "start"


class Looking:
    """From its beginning: what is measured after that is under its looks."""

    def __init__(self, pid: int, place: Path) -> None:
        self._place = place
        self._process = subprocess.Popen(
            [
                *(str(PROGRAM), "record", "--pid", str(pid), "--format", "raw"),
                *("--rate", str(RATE), "--output", str(place), "--duration", "unlimited"),
                "--threads",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it looks, or has ended

    def end(self) -> list[str]:
        """The stacks: frames from the outermost, and how often. Raises NoLook."""
        self._process.send_signal(signal.SIGINT)
        _, told = self._process.communicate(timeout=30)
        if not self._place.exists():
            raise NoLook(told.strip().splitlines()[-1] if told.strip() else "py-spy said nothing")
        return self._place.read_text().splitlines()
