"""A whole broker inside a process of its user, for tests and for trying things out.

What ``Client("memory://")`` of the SDK connects to; the SDK finds it by the entry point ``memory``
of the group ``towline.brokers``. It is the broker that ``towline-broker serve`` runs, on a free
port of loopback with its jobs in memory, in a thread with an event loop of its own. What it adds is
for tests: its clock can be set forward, its store emptied, and what was pushed looked at.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from msgspec.structs import replace

from towline_broker.core.clock import SystemClock, Timer
from towline_broker.core.routing import DEFAULT_STORE
from towline_broker.domain.time import SECOND, Micros
from towline_broker.drivers.interface import PushBatch, PushOutcome, PushResult
from towline_broker.drivers.memory import DEFAULT_MAX_BYTES, Engine, MemoryDriver
from towline_broker.server.configuration.http_settings import HttpSettings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import BrokerServer

T = TypeVar("T")

#: How long a call from another thread may take; all of them are over in milliseconds.
PATIENCE: float = 30.0


class EmbeddedBroker:
    """Serves from the moment it is made, until :meth:`close`. Its methods are safe from any thread.

    ``address`` is where clients of this process, and of others on this machine, reach it.
    """

    def __init__(self) -> None:
        """Raises AddressError if there is no free port on loopback."""
        self._store = RecordingStore()
        self._clock = TravellingClock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="towline-broker", daemon=True)
        self._closed = False
        self._thread.start()
        try:
            self._server = self._run(self._start())
        except BaseException:
            self._end()
            raise
        self.address = str(self._server.address)

    def now(self) -> datetime:
        """The time on the broker's clock, in UTC."""
        return _to_datetime(self._run(self._read_clock()))

    def travel(self, by: timedelta) -> None:
        """Sets the clock forward by so much, and does at once what has fallen due by then.

        Jobs become READY or expire, leases run out, what ended is forgotten. Nobody works in
        between: a job that is due before its expiry is dead all the same if both have passed.
        """
        self._run(self._travel(int(by.total_seconds() * SECOND)))

    def pushed(self) -> list[tuple[bytes, datetime]]:
        """Every job that was stored since :meth:`reset`, in that order: the job as it was pushed, a
        serialized ``towline.v1.Job``, and when. Nothing before the first reset."""
        recorded = self._run(self._read_recorded())
        return [(envelope, _to_datetime(at)) for envelope, at in recorded]

    def reset(self) -> None:
        """Forgets every job, queue and figure, sets the clock to the time of day, and records from
        here on what is pushed. Workers that are connected stay so; a lease that one holds is lost.
        """
        self._run(self._reset())

    def close(self) -> None:
        """Ends every call and stops serving. Its jobs are gone."""
        if not self._closed:
            self._closed = True
            self._run(self._server.stop(grace=None))
            self._end()

    # In the thread of the broker.

    async def _start(self) -> BrokerServer:
        server = BrokerServer(
            Settings(store="memory:", listen="127.0.0.1:0", http=HttpSettings(listen="off")),
            drivers={DEFAULT_STORE: self._store},
            clock=self._clock,
        )
        await server.start()
        return server

    async def _read_clock(self) -> Micros:
        return self._clock.now()

    async def _travel(self, by: Micros) -> None:
        self._clock.adjust(by)
        await self._server.broker.catch_up()
        # After the upkeep, so that a parked Reserve goes home with a job that is READY by now.
        self._clock.fire_due()

    async def _read_recorded(self) -> list[tuple[bytes, Micros]]:
        return list(self._store.recorded or ())

    async def _reset(self) -> None:
        self._store.clear()
        await self._server.broker.operating.reset()
        self._clock.return_to_present()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)


class RecordingStore(MemoryDriver):
    """A memory store that can be emptied and remembers what was pushed.

    Retries come exactly when the policy of a job says: a test that waits for one by setting the
    clock forward could not know the random share.
    """

    def __init__(self) -> None:
        super().__init__(Engine(DEFAULT_MAX_BYTES))
        #: None as long as nobody wants to know: a process may go on for ever.
        self.recorded: list[tuple[bytes, Micros]] | None = None

    def clear(self) -> None:
        """Empties the store, and records from here on."""
        self._engine = Engine(DEFAULT_MAX_BYTES)
        self.recorded = []

    async def push(self, batch: PushBatch) -> list[PushResult]:
        jobs = [replace(job, retry=replace(job.retry, jitter=0.0)) for job in batch.jobs]
        results = await super().push(replace(batch, jobs=jobs))
        if self.recorded is not None:
            for job, result in zip(jobs, results, strict=True):
                if result.outcome is PushOutcome.CREATED:
                    self.recorded.append((job.envelope, batch.now))
        return results


class TravellingClock(SystemClock):
    """The clock of one event loop, which can be set forward with all its timers."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: set[TravellingTimer] = set()

    def call_at(self, when: Micros, callback: Callable[[], None]) -> Timer:
        timer = TravellingTimer(when, callback, self._timers.discard)
        self._timers.add(timer)
        timer.start(max(0, when - self.now()))
        return timer

    def fire_due(self) -> None:
        """Calls back those whose time has come by :meth:`adjust`, and lets the others wait for what
        is left of theirs."""
        now = self.now()
        for timer in sorted(self._timers, key=lambda timer: timer.when):
            timer.start(max(0, timer.when - now))

    def return_to_present(self) -> None:
        """Goes back to the time of day, for a store that is empty. Every timer fires: what waited
        for a time that is now far away looks again."""
        self.begin_at(time.time_ns() // 1_000)
        for timer in tuple(self._timers):
            timer.start(0)


class TravellingTimer:
    def __init__(
        self,
        when: Micros,
        callback: Callable[[], None],
        on_end: "Callable[[TravellingTimer], None]",
    ) -> None:
        self.when = when
        self._callback = callback
        self._on_end = on_end
        self._handle: asyncio.TimerHandle | None = None

    def start(self, delay: Micros) -> None:
        """Or start again."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = asyncio.get_running_loop().call_later(delay / SECOND, self._fire)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._on_end(self)

    def _fire(self) -> None:
        self._on_end(self)
        self._callback()


def _to_datetime(moment: Micros) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=moment)
