"""One schedule: clients, network, broker and disk under one loop, and a verdict at the end."""

import asyncio
import gc
import logging
import os
import secrets
import sys
from collections import defaultdict
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tests.faults.harness.answers import final_job, numbers
from tests.faults.harness.assumptions import Assumptions
from tests.faults.harness.checker import judge
from tests.faults.harness.history import Final, History
from tests.simulation.clients import Client, Shared
from tests.simulation.disk import Disk
from tests.simulation.loop import Loop, Process, Stuck
from tests.simulation.machine import ERRORS, DiskFaults
from tests.simulation.network import Network
from tests.simulation.oracle import Oracle
from tests.simulation.plan import Kind, Operation, Plan
from tests.simulation.server import PLACE, Server, file_driver, memory_driver
from tests.simulation.watch import Watch
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import dead_letter_service_pb2 as dead
from towline.v1 import queue_service_pb2 as pb
from towline_broker.core import tokens
from towline_broker.core.clock import SystemClock
from towline_broker.core.settings import CoreSettings
from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.domain.time import from_seconds
from towline_broker.drivers.file import FileDriver, compaction, costs
from towline_broker.drivers.memory import MemoryDriver

#: By the wall clock the schedule begins then, in nanoseconds.
_EPOCH = 1_800_000_000 * 1_000_000_000
#: A drain that takes longer hangs, in seconds.
_DRAIN_SECONDS = 120.0
#: A call to a broker that is well is answered within this, in seconds.
_CALM_TIMEOUT = 10.0
#: So long after its client gave up a call may still take effect: its way, and its own deadline.
_LATE = 6.0
#: Of the disk, in bytes.
_OTHER_FILES = 4096
#: What a broker that has started with a wrong clock cannot keep.
_OF_DELAYS = (
    *("given too early", "given although expired"),
    "left after a job that was ready later",
)
_WALL_JUMPS = (3600.0, -3600.0)


@dataclass(frozen=True, slots=True)
class Result:
    plan: Plan
    #: Empty: every promise was kept.
    violations: tuple[str, ...]
    #: What was violated, in a few words: to know the same defect again.
    kinds: frozenset[str]
    history: History
    trace: Sequence[str]
    steps: int
    #: Simulated, in seconds.
    lasted: float


class World:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        conditions = plan.conditions
        self.loop = Loop(plan.rng("loop"), in_order=conditions.in_order, step=conditions.step)
        self.trace: list[str] = []
        self.violations: list[tuple[str, str]] = []
        self._wall = 0.0
        #: A broker has started while the wall clock was wrong, and has taken it for the truth.
        self._leapt = False
        #: It was behind: how long no broker ran is not known, and what was to expire expires later.
        self._lagged = False
        self._disk = Disk(conditions.disk_segments * conditions.segment_bytes + _OTHER_FILES)
        self._disk.make_directory(PLACE.parent)
        self._disk.sync_directory(PLACE.parent.parent)
        self._disk_rng = plan.rng("disk")
        self._faults = DiskFaults(short_writes=conditions.short_writes)
        #: The disk operation at which the process is killed, or the power goes.
        self._end_at: tuple[int, Kind] | None = None
        self._server: Server | None = None
        self._process: Process | None = None
        self._processes: list[Process] = []
        self._settings = CoreSettings(
            settle_memory=from_seconds(conditions.settle_memory),
            max_queue_depth=conditions.max_queue_depth,
        )
        self._oracle = Oracle(self._settings.settle_memory, self._differs)
        self._shared = Shared()
        self._network = Network(
            self.loop, conditions, plan.rng("network"), lambda: self._server, self._defect
        )
        self._watch = Watch(self.loop, lambda: self._server, self._oracle, self.violated)
        self._world_context = copy_context()

    # --- telling ------------------------------------------------------------------------------

    def tell(self, text: str) -> None:
        self.trace.append(f"{self.loop.time():10.4f}  {text}")

    def violated(self, kind: str, text: str) -> None:
        self.violations.append((kind, text))
        self.tell(f"VIOLATION {kind}: {text}")

    def _differs(self, text: str) -> None:
        self.violated("differs from the model: " + text.partition(":")[0], text)

    def _defect(self, where: str, error: Exception) -> None:
        self.violated(f"defect in {where}", f"{where} raised {error!r}")

    # --- the broker's lives -------------------------------------------------------------------

    def boot(self) -> None:
        if self._process is not None and self._process.alive:
            return
        process = Process(f"broker-{len(self._processes) + 1}")
        self._processes.append(process)
        self._process = process
        self.tell(f"{process.name} starts")
        self.loop.create_task(self._live(process), context=process.context())

    async def _live(self, process: Process) -> None:
        driver = self._driver(process)
        clock = SystemClock(self._wall_clock, lambda: int(self.loop.time() * 1e9))
        rng = self.plan.rng(process.name)
        server = Server(driver, process, clock, self._settings, rng, self.loop)
        open_driver = driver.open

        async def opened(now: int, listener: Any) -> int:
            seen = await open_driver(now, listener)
            self._leapt = self._leapt or self._wall > 0
            self._lagged = self._lagged or self._wall < 0
            self._oracle.opened(driver, max(now, seen))
            return seen

        driver.open = opened  # type: ignore[method-assign]  # of this one
        try:
            await server.start()
        except (StoreRefused, StoreUnavailable) as error:
            self._refused(process, error)
            return
        self._server = server
        self.tell(f"{process.name} serves")
        await server.broker.failed.wait()
        self.tell(f"{process.name} ends: its store has failed")
        self._end(Kind.KILL)

    def _driver(self, process: Process) -> FileDriver | MemoryDriver:
        conditions = self.plan.conditions
        if conditions.store == "memory":
            return memory_driver()
        return file_driver(
            *(self.loop, self._disk, process, self._faults),
            pace=conditions.pace,
            segment_bytes=conditions.segment_bytes,
            rng=self._disk_rng,
            reached=self._reached,
        )

    def _refused(self, process: Process, error: Exception) -> None:
        """A disk that fails now may work later; everything else is for ever."""
        self.tell(f"{process.name} cannot start: {error}")
        if not isinstance(error.__cause__, OSError):
            self.violated("P1 the store cannot be opened", str(error))
            self.loop.stop()
            return
        self._end(Kind.KILL)

    def _reached(self, number: int) -> None:
        if self._end_at is not None and number >= self._end_at[0]:
            _, kind = self._end_at
            self._end_at = None
            self._end(kind)

    def _end(self, kind: Kind) -> None:
        """The process is no more; another one is started before long."""
        process = self._process
        if process is None or not process.alive:
            return
        self.tell(f"{process.name}: {kind.value}")
        process.alive = False
        self._server = None
        if kind is Kind.POWER:
            self._disk.lose_power(self._disk_rng)
        else:
            self._disk.close_all()
        self._network.server_is_gone()
        self._outside(self._disk_rng.choice((0.001, 0.05, 1.5)), self.boot)

    async def _stop(self) -> None:
        """SIGTERM, and a new process."""
        server, process = self._server, self._process
        if server is None or process is None:
            return
        self.tell(f"{process.name}: {Kind.STOP.value}")
        self._server = None
        done: asyncio.Future[None] = self.loop.create_future()

        def stopped() -> None:
            if not done.done():
                done.set_result(None)

        async def stopping() -> None:
            await server.stop()
            self._outside(0.0, stopped)

        self.loop.create_task(stopping(), context=process.context())
        while process.alive and not done.done():
            await asyncio.wait([done], timeout=0.5)
        if process.alive:
            process.alive = False
            self._disk.close_all()
            self._network.server_is_gone()
            self.boot()

    def _outside(self, delay: float, callback: Any) -> None:
        """On behalf of the world, whoever asks for it."""
        self.loop.call_later(delay, callback, context=self._world_context)

    def _wall_clock(self) -> int:
        return _EPOCH + int((self.loop.time() + self._wall) * 1e9)

    # --- faults -------------------------------------------------------------------------------

    async def _fault(self, operation: Operation) -> None:
        await asyncio.sleep(operation.pause)
        rng = self.plan.rng_of(operation)
        match operation.kind:
            case Kind.KILL | Kind.POWER:
                if rng.random() < 0.5:
                    self._end_at = (self._disk.operations + rng.randrange(1, 40), operation.kind)
                else:
                    self._end(operation.kind)
            case Kind.STOP:
                await self._stop()
            case Kind.WALL_CLOCK:
                self._wall += rng.choice(_WALL_JUMPS)
                self.tell(f"the wall clock is {self._wall:+.0f} s off")
            case Kind.DISK_ERROR:
                self._faults.fail_at[self._disk.operations + rng.randrange(1, 40)] = rng.choice(
                    ERRORS
                )
            case _:
                seconds = rng.choice((0.1, 1.0, 4.0))
                self.tell(f"nothing gets through for {seconds} s")
                self._network.cut(seconds)

    # --- a schedule ---------------------------------------------------------------------------

    async def run(self) -> History:
        self.boot()
        watching = asyncio.ensure_future(self._watch.run())
        by_actor: dict[str, list[Operation]] = defaultdict(list)
        for operation in self.plan.operations:
            by_actor[operation.actor].append(operation)
        doings: list[Coroutine[Any, Any, None]] = []
        for actor, operations in by_actor.items():
            if actor.startswith("world"):
                doings += [self._fault(each) for each in operations]
            else:
                doings.append(self._client(actor).run(operations))
        await asyncio.gather(*doings)
        await self._calm_down()
        final = await self._drain()
        watching.cancel()
        return History(self._shared.whole_history(), final)

    def _client(self, name: str) -> Client:
        return Client(name, self.plan, self.loop, self._network, self._shared)

    async def _calm_down(self) -> None:
        """No more faults, and what is still on its way arrives."""
        self.tell("no more faults")
        self._end_at = None
        self._faults.fail_at.clear()
        self._faults.short_writes = 0.0
        self._network.calm = True
        await asyncio.sleep(3.0)

    async def _drain(self) -> Final:
        """Takes every job to its end, and asks how things stand."""
        deadline = self.loop.time() + _DRAIN_SECONDS
        drainer = self._client("drain")
        while self.loop.time() < deadline:
            if await self._drained_a_little(drainer):
                break
        else:
            self.violated("P3 not drained", f"not after {_DRAIN_SECONDS:g} s")
        return await self._final(drainer)

    async def _drained_a_little(self, drainer: Client) -> bool:
        queues = await self._ask("AdminService", "ListQueues", admin.ListQueuesRequest())
        for queue in queues.queues:
            if queue.paused:
                request = admin.ResumeQueueRequest(queue=queue.name)
                await self._ask("AdminService", "ResumeQueue", request)
        depths = [queue.depth for queue in queues.queues]
        if not any(depth.scheduled or depth.ready or depth.leased for depth in depths):
            return True
        await drainer.drain([queue.name for queue in queues.queues])
        return False

    async def _final(self, drainer: Client) -> Final:
        stats = await self._ask("AdminService", "Stats", admin.StatsRequest())
        jobs = await self._ask("QueueService", "ListJobs", pb.ListJobsRequest(page_size=1_000))
        buried = await self._ask(
            "DeadLetterService", "ListDead", dead.ListDeadRequest(page_size=1_000)
        )
        if self._server is not None:
            self._oracle.compare_with(self._server.driver)
        return Final(
            jobs=[final_job(info) for info in jobs.jobs],
            dead=[info.job.id for info in buried.jobs],
            totals=numbers(stats.total.totals),
            depth=numbers(stats.total.depth),
            forgets_succeeded=self.plan.conditions.retention == 0,
        )

    def judge(self, history: History) -> None:
        assumptions = Assumptions(
            late=_LATE, order_slack=0.0, settle_memory=self.plan.conditions.settle_memory
        )
        for violation in judge(history, assumptions).violations:
            if self._leapt and violation.rule in _OF_DELAYS:
                continue
            if self._lagged and violation.rule == "given although expired":
                continue
            self.violated(f"{violation.promise} {violation.rule}", violation.told(history))

    async def _ask(self, service: str, method: str, request: Any) -> Any:
        """As often as it takes: with no faults left, that is not often."""
        for _ in range(10):
            reply = await self._client("end").call(service, method, request, timeout=_CALM_TIMEOUT)
            self._shared.history.pop()
            if reply is not None:
                return reply
            await asyncio.sleep(0.5)
        raise Stuck(f"{method} is not answered although nothing is wrong any more")


def play(plan: Plan) -> Result:
    """One schedule from its begin to its verdict."""
    world = World(plan)
    history = History([], Final())
    with _seeded(plan):
        try:
            history = world.loop.run_until_complete(world.run())
        except Stuck as stuck:
            world.violated("P8 stuck", str(stuck))
        except RuntimeError as error:
            if not world.violations:  # that is why the loop was stopped
                raise AssertionError("the simulation itself has failed") from error
        else:
            if not world.violations:
                world.judge(history)
        _bury(world)
    return Result(
        plan,
        tuple(text for _, text in world.violations),
        frozenset(kind for kind, _ in world.violations),
        history,
        world.trace,
        world.loop.steps,
        world.loop.time(),
    )


#: In bytes, and in segments.
_TINY: dict[tuple[ModuleType, str], int] = {
    (costs, "LEAST"): 512,
    (costs, "_ITEM"): 200,
    (costs, "_NEW"): 250,
    (costs, "_POLICY"): 100,
    (compaction, "LEAST_SEGMENTS"): 1,
}


@contextmanager
def _seeded(plan: Plan) -> Iterator[None]:
    """What the broker draws for itself is drawn from the plan, and nothing is told to the log."""
    rng = plan.rng("chance")
    urandom, token_bytes, freeze = os.urandom, secrets.token_bytes, gc.freeze
    constants = {(place, name): getattr(place, name) for place, name in _TINY}
    if plan.conditions.tiny_journal:
        for (place, name), value in _TINY.items():
            setattr(place, name, value)
    os.urandom = rng.randbytes
    secrets.token_bytes = lambda nbytes=None: rng.randbytes(nbytes or 32)
    tokens._drawn.clear()  # what another schedule has drawn ahead
    gc.freeze = lambda: None
    logging.disable(logging.CRITICAL)
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        for (place, name), value in constants.items():
            setattr(place, name, value)
        os.urandom, secrets.token_bytes, gc.freeze = urandom, token_bytes, freeze
        logging.disable(logging.NOTSET)
        if collects:
            gc.enable()


_buried = 0
#: Between two collections of what dead processes have left.
_COLLECT_EVERY = 50


def _bury(world: World) -> None:
    """What dead processes were in the middle of would complain when it is swept away."""
    global _buried
    world.loop.close()
    _buried += 1
    if _buried % _COLLECT_EVERY == 0:
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            gc.collect()
        finally:
            sys.unraisablehook = hook
