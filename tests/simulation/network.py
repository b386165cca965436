"""The way between clients and the broker: calls are late, lost, and answered to nobody."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from random import Random
from typing import Any

from tests.simulation.loop import Loop
from tests.simulation.plan import Conditions
from tests.simulation.server import Refused, Server, ServerCall

#: A connection that was cut is noticed within this, or not before the call's deadline; in seconds.
_NOTICED = 0.2
#: The longest that a reply waits for room on the wire, in seconds.
_JAM = 0.1


class Network:
    def __init__(
        self,
        loop: Loop,
        conditions: Conditions,
        rng: Random,
        server: Callable[[], Server | None],
        defect: Callable[[str, Exception], None],
    ) -> None:
        """``server``: who answers now. ``defect``: told of what a handler raised by mistake."""
        self._loop = loop
        self._conditions = conditions
        self._rng = rng
        self._server = server
        self._defect = defect
        #: Timers run in it whatever process has set them.
        self._outside = copy_context()
        #: Calls that are under way, in their order.
        self._waiting: dict[asyncio.Future[Any], None] = {}
        self._cut_until = 0.0
        self.calm = False

    def cut(self, seconds: float) -> None:
        """Nothing gets through from now on, either way."""
        self._cut_until = max(self._cut_until, self._loop.time() + seconds)

    def server_is_gone(self) -> None:
        """Some of those who wait for its answer notice that."""
        for future in list(self._waiting):
            if self._rng.random() < 0.5:
                self._later(self._rng.uniform(0, _NOTICED), _fail, future, Refused("UNAVAILABLE"))

    async def call(
        self, service: str, method: str, request: Any, timeout: float, patience: float | None = None
    ) -> Any:
        """The reply. ``timeout`` is the deadline of the call; ``patience``: its client is gone
        before that, in seconds. Raises Refused."""
        future: asyncio.Future[Any] = self._loop.create_future()
        jammed = not self.calm and self._rng.random() < 0.2
        call = ServerCall(self._loop, self._rng.uniform(0, _JAM) if jammed else 0.0)
        self._waiting[future] = None
        lasts = timeout if patience is None else min(timeout, patience)
        timer = self._later(lasts, _fail, future, Refused("DEADLINE_EXCEEDED"))
        if not self._lost():
            self._later(
                self._delay(), self._arrive, service, method, request, timeout, call, future
            )
        try:
            return await future
        except Refused:
            if self._rng.random() < 0.8 and not self._lost():
                # The broker hears that nobody waits any more.
                self._later(self._delay(), call.cancel)
            raise
        finally:
            timer.cancel()
            self._waiting.pop(future)

    def _arrive(
        self,
        service: str,
        method: str,
        request: Any,
        timeout: float,
        call: ServerCall,
        future: "asyncio.Future[Any]",
    ) -> None:
        server = self._server()
        if call.over:
            return
        if server is None or not server.serving:
            self._later(self._delay(), _fail, future, Refused("UNAVAILABLE"))
            return
        call.begin(timeout, server.process)
        work = self._handle(server, service, method, request, call, future)
        call.task = self._loop.create_task(work, context=server.process.context())

    async def _handle(
        self,
        server: Server,
        service: str,
        method: str,
        request: Any,
        call: ServerCall,
        future: "asyncio.Future[Any]",
    ) -> None:
        try:
            async with asyncio.timeout(call.time_remaining()):
                reply = await server.answer(service, method, request, call)
        except Refused as error:
            self._send(_fail, future, error)
        except TimeoutError:
            call.over = True
        except Exception as error:  # the interceptor would answer INTERNAL
            self._defect(f"{service}.{method}", error)
            self._send(_fail, future, Refused("INTERNAL"))
        else:
            self._send(_answer, future, reply)

    def _send(self, put: Callable[..., None], future: "asyncio.Future[Any]", what: Any) -> None:
        if not self._lost():
            self._later(self._delay(), put, future, what)

    def _delay(self) -> float:
        """Now and then much longer than usual."""
        mean = self._conditions.delay
        if not self.calm and self._rng.random() < 0.03:
            mean *= 30
        return min(3.0, self._rng.expovariate(1 / mean))

    def _lost(self) -> bool:
        if self.calm:
            return False
        return self._loop.time() < self._cut_until or self._rng.random() < self._conditions.loss

    def _later(
        self, delay: float, callback: Callable[..., object], *args: Any
    ) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, callback, *args, context=self._outside)


def _fail(future: "asyncio.Future[Any]", error: Refused) -> None:
    if not future.done():
        future.set_exception(error)


def _answer(future: "asyncio.Future[Any]", reply: Any) -> None:
    if not future.done():
        future.set_result(reply)
