"""Where the broker's processor time goes, over the file store: 100 jobs a call with 8 clients, and
one job a call with 64; beside it what an empty server takes for the same calls.

The kernel tells what each thread has used, and py-spy what those of Python did: each look from
outside counts for the room of our code, or the library, whose function it meets innermost. A look
halts the broker, 200 times a second, so what is under them costs more: the empty server and the
whole broker are without, the broker under py-spy and its rooms, which add up to it, in a round of
their own. A round pushes for a while, and works off what it has pushed; a flame graph of each goes
to ``docs/``, unless it is to be quick.
"""

import asyncio
import re
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
import psutil  # type: ignore[import-untyped]  # it has no types

from bench import processes
from bench.attempts import attempt
from bench.options import Options
from bench.parts.calls import PAYLOAD, Calls, Shape
from bench.report.flames import write_flames
from bench.results import Figure, Part
from bench.stores import STORES

PROGRAM = Path(".venv-peers") / "bin" / "py-spy"
STORE = "file"
SHAPES = (Shape(100, 8), Shape(1, 64))
#: Looks a second.
RATE = 200
#: Of the first shape.
GRAPHS = {"Push": "flame-push.svg", "Reserve + Ack": "flame-work.svg"}
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
    for shape in SHAPES:
        with (
            attempt(part, str(shape)),
            processes.fresh_folder() as folder,
            STORES[STORE](folder) as measured,
            processes.broker_process(measured.new_url()) as broker,
            processes.echo_process(shape.batch, PAYLOAD) as echo,
        ):
            profile = Profile(part, shape, options.pick(8.0, quick=0.7), folder)
            try:
                asyncio.run(profile.of_echo(*echo))
                asyncio.run(profile.of_broker(*broker, keep=not options.quick))
            except NoLook as error:
                part.missing.append(f"no profile: {error}")
    options.tell(part.figures)


class NoLook(Exception):
    """py-spy may not look at another process here."""


class Profile:
    """Of calls of one shape, so many seconds for each."""

    def __init__(self, part: Part, shape: Shape, seconds: float, folder: Path) -> None:
        self._part = part
        self._shape = shape
        self._seconds = seconds
        self._folder = folder

    async def of_echo(self, address: str, pid: int) -> None:
        await self._without(address, pid, "empty server")

    async def of_broker(self, address: str, pid: int, *, keep: bool) -> None:
        await self._without(address, pid, "whole broker")
        async with grpc.aio.insecure_channel(address) as channel:
            for what, call in self._calls(channel):
                looking, before = Looking(pid, self._folder / "stacks.txt"), Used.of(pid)
                jobs = await self._repeat(call)
                used = Used.of(pid).since(before)
                stacks = looking.end()
                self._add("broker under py-spy", what, used.all / jobs)
                for room, seconds in costs(stacks, used):
                    self._add(room, what, seconds / jobs)
                if keep and self._shape is SHAPES[0]:
                    title = f"{what}, {self._shape.batch} jobs a call, {STORE} store"
                    plain = [_THREAD.sub("", stack) for stack in stacks]
                    write_flames(Path("docs") / GRAPHS[what], title, plain)

    async def _without(self, address: str, pid: int, who: str) -> None:
        """A round that nobody looks at."""
        async with grpc.aio.insecure_channel(address) as channel:
            for what, call in self._calls(channel):
                before = Used.of(pid)
                jobs = await self._repeat(call)
                self._add(who, what, Used.of(pid).since(before).all / jobs)

    def _add(self, who: str, what: str, seconds: float) -> None:
        self._part.figures.append(Figure(STORE, who, what, str(self._shape), "µs", [seconds * 1e6]))

    def _calls(
        self, channel: grpc.aio.Channel
    ) -> Iterator[tuple[str, Callable[[], Awaitable[bool]]]]:
        """What is called again and again, until it says that there is nothing left."""
        calls = Calls(channel, self._shape.batch)
        pushed = 0

        async def push() -> bool:
            nonlocal pushed
            await calls.push()
            pushed += 1
            return True

        async def work() -> bool:
            nonlocal pushed
            pushed -= 1
            if pushed < 0:
                return False
            await calls.work()
            return True

        yield "Push", push
        if calls.refused:
            told = f"{calls.refused:,} refusals of {pushed:,} calls, which were made again"
            self._part.missing.append(f"Push, {self._shape} without refusals: {told}")
        yield "Reserve + Ack", work

    async def _repeat(self, call: Callable[[], Awaitable[bool]]) -> int:
        """How many jobs that was."""
        began = time.perf_counter()

        async def client() -> int:
            done = 0
            while time.perf_counter() - began < self._seconds and await call():
                done += self._shape.batch
            return done

        return sum(await asyncio.gather(*(client() for _ in range(self._shape.clients))))


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
