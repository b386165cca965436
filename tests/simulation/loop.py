"""An event loop without a clock, a selector or a thread: time is a number that jumps to the next
timer, and chance decides what runs next of all that could.

Everything runs on behalf of a process (see :class:`Process`), which it inherits from whatever
scheduled it. Once a process is dead, nothing of it runs again, not even a ``finally``: that is what
a kill looks like from inside.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, TypeVar, TypeVarTuple, Unpack

from tests.simulation.threads import Thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: How long a thread is about to begin or to hear of something, in seconds.
_HANDOVER = (0.00001, 0.0005)
#: Callbacks in one schedule: more is a loop that spins.
MOST_STEPS = 2_000_000


class Stuck(Exception):
    """Nothing is left that could ever run, or it never comes to an end."""


class Process:
    """What dies as one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        #: Calls from threads keep their order among themselves.
        self.from_threads: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        #: What is left of it, kept from the garbage collector until the schedule is over.
        self.tasks: list[asyncio.Task[Any]] = []

    def context(self) -> Context:
        context = copy_context()
        context.run(PROCESS.set, self)
        return context


#: That which never dies: the clients and the world itself.
WORLD = Process("world")
PROCESS: ContextVar[Process] = ContextVar("PROCESS", default=WORLD)


class Loop(asyncio.BaseEventLoop):
    """Runs until :meth:`run_until_complete` has its answer. Raises Stuck."""

    def __init__(self, rng: Random, *, in_order: bool, step: float = 0.0) -> None:
        """``in_order``: callbacks that are ready run first come, first served, as asyncio has it;
        otherwise in any order. ``step``: how long one takes on average, in seconds, so that timers
        fall due while others have yet to run."""
        super().__init__()
        self._rng = rng
        self._now = 0.0
        #: With the number of the timer, which keeps those of one moment apart.
        self._timers: list[tuple[float, int, Any]] = []
        self._scheduled_so_far = 0
        self._in_order = in_order
        self._step = step
        self._ready: Any = deque() if in_order else []
        self.steps = 0
        self.set_task_factory(_new_task)
        self.set_exception_handler(self._failed)
        #: What went wrong with nobody to hear of it.
        self.failures: list[dict[str, Any]] = []

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.failures.append(context)

    # --- time ---------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer: Any = asyncio.TimerHandle(when, callback, args, self, context)
        self._scheduled_so_far += 1
        heapq.heappush(self._timers, (when, self._scheduled_so_far, timer))
        handle: asyncio.TimerHandle = timer
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time has come."""

    # --- one step -----------------------------------------------------------------------------

    def _run_once(self) -> None:
        self._gather()
        ready = self._ready
        if self._in_order:
            handle = ready.popleft()
        else:
            place = int(self._rng.random() * len(ready))
            handle, ready[place] = ready[place], ready[-1]
            ready.pop()
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Stuck(f"it goes on for ever at {self._now:.3f}")
        if not handle._cancelled and handle._context.get(PROCESS, WORLD).alive:
            handle._run()
        if self._step:
            self._now += self._rng.expovariate(1 / self._step)

    def _gather(self) -> None:
        """What is due becomes ready; if nothing is ready, time jumps."""
        timers = self._timers
        while timers and (not self._ready or timers[0][0] <= self._now):
            when, _, timer = heapq.heappop(timers)
            if not timer._cancelled and timer._context.get(PROCESS, WORLD).alive:
                self._now = max(self._now, when)
                self._ready.append(timer)
        if not self._ready:
            raise Stuck(f"nothing is left to run at {self._now:.3f}")

    def _process_events(self, event_list: Any) -> None:
        """There is no selector."""

    def _write_to_self(self) -> None:
        """There is nobody to be woken."""

    # --- threads ------------------------------------------------------------------------------

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        process = PROCESS.get()
        process.from_threads.append((callback, args))
        return self.call_soon(_take, process, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:  # the executor's caller hears of whatever it is
                self.call_soon_threadsafe(_settle, future, None, error)
            else:
                self.call_soon_threadsafe(_settle, future, result, None)

        self.start_thread(work)
        return future

    def start_thread(self, work: Callable[[], None]) -> Thread:
        """Runs it beside all else: wherever it pauses, everything else can happen."""
        thread = Thread(self, work)
        thread.resume_after(self.a_moment())
        return thread

    def a_moment(self) -> float:
        return self._rng.uniform(*_HANDOVER)


def _take(process: Process) -> None:
    callback, args = process.from_threads.popleft()
    callback(*args)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _new_task(loop: Any, coroutine: Any, context: Context | None = None) -> "asyncio.Task[Any]":
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, context=context)
    process = PROCESS.get() if context is None else context.get(PROCESS, WORLD)
    if process is not WORLD:
        process.tasks.append(task)
    return task
