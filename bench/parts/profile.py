"""Where the broker's processor time goes: 100 jobs a call, 8 clients, over the file store.

py-spy looks at the broker from outside while it serves; each look counts for the room of our code,
or the library, whose function it meets innermost. A round pushes for a while, and works off what it
has pushed; a flame graph of each goes to ``docs/``, unless it is to be quick.
"""

import asyncio
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import psutil  # type: ignore[import-untyped]  # it has no types

from bench import processes
from bench.options import Options
from bench.parts.calls import Calls
from bench.report.flames import write_flames
from bench.results import Figure, Part
from bench.stores import STORES

PROGRAM = Path(".venv-peers") / "bin" / "py-spy"
STORE, BATCH, CLIENTS = "file", 100, 8
#: Looks a second.
RATE = 200
GRAPHS = {"Push": "flame-push.svg", "Reserve + Ack": "flame-work.svg"}

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
    with (
        processes.fresh_folder() as folder,
        STORES[STORE](folder) as measured,
        processes.broker_process(measured.new_url()) as (address, pid),
    ):
        seconds = options.pick(8.0, quick=1.5)
        try:
            asyncio.run(_measure(address, pid, seconds, folder, part, keep=not options.quick))
        except NoLook as error:
            part.missing.append(f"no profile: {error}")
    options.tell(part.figures)


class NoLook(Exception):
    """py-spy may not look at another process here."""


async def _measure(
    address: str, pid: int, seconds: float, folder: Path, part: Part, *, keep: bool
) -> None:
    process = psutil.Process(pid)
    async with grpc.aio.insecure_channel(address) as channel:
        calls = Calls(channel, BATCH)
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

        for what, call in (("Push", push), ("Reserve + Ack", work)):
            looking = Looking(pid, folder / "stacks.txt")
            used, began = _used(process), time.perf_counter()

            async def client(call: Callable[[], Awaitable[bool]] = call) -> int:
                done = 0
                while time.perf_counter() - began < seconds and await call():  # noqa: B023 -- it ends within this turn
                    done += BATCH
                return done

            jobs = sum(await asyncio.gather(*(client() for _ in range(CLIENTS))))
            cost = (_used(process) - used) / jobs * 1e6
            stacks = looking.end()
            part.figures.append(Figure(STORE, "whole broker", what, "", "µs", [cost]))
            for room, share in shares(stacks):
                part.figures.append(Figure(STORE, room, what, "", "µs", [cost * share]))
            if keep:
                title = f"{what}, {BATCH} jobs a call, {STORE} store"
                write_flames(Path("docs") / GRAPHS[what], title, stacks)


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def shares(stacks: list[str]) -> list[tuple[str, float]]:
    """The share of each room, largest first."""
    looks: Counter[str] = Counter()
    for stack in stacks:
        frames, _, number = stack.rpartition(" ")
        looks[_room(frames.split(";"))] += int(number)
    return [(room, number / looks.total()) for room, number in looks.most_common()]


def _room(frames: list[str]) -> str:
    """Of the innermost frame that is of a room; what the standard library does is its caller's."""
    for frame in reversed(frames):
        for pattern, name in _ROOMS:
            if found := pattern.search(frame):
                return name.format(*found.groups())
    return "start"


class Looking:
    def __init__(self, pid: int, place: Path) -> None:
        self._place = place
        self._process = subprocess.Popen(
            [
                *(str(PROGRAM), "record", "--pid", str(pid), "--format", "raw"),
                *("--rate", str(RATE), "--output", str(place), "--duration", "unlimited"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> list[str]:
        """The stacks: frames from the outermost, and how often. Raises NoLook."""
        self._process.send_signal(signal.SIGINT)
        _, told = self._process.communicate(timeout=30)
        if not self._place.exists():
            raise NoLook(told.strip().splitlines()[-1] if told.strip() else "py-spy said nothing")
        return self._place.read_text().splitlines()
