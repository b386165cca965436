"""Which calls are under way, for a broker that goes down without breaking any."""

import asyncio
from typing import Any

import grpc

from towline_broker.domain.errors import Draining
from towline_broker.interceptors.wrapping import Behaviour, WrappingInterceptor


class RunningCalls(WrappingInterceptor):
    """Counts calls, and refuses them once closed."""

    def __init__(self) -> None:
        #: How many have come in so far.
        self.calls = 0
        self._running = 0
        self._closed = False
        #: Set when none is under way, for who waits for that.
        self._over: asyncio.Event | None = None

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def count(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            self.calls += 1
            if self._closed:
                raise Draining
            self._running += 1
            try:
                return await behaviour(request, context)
            finally:
                self._running -= 1
                if self._over is not None and not self._running:
                    self._over.set()

        return count

    async def idle(self) -> None:
        """Returns when no call is under way."""
        while self._running:
            self._over = asyncio.Event()
            await self._over.wait()
        self._over = None

    def close(self) -> None:
        """Every further call is refused with Draining."""
        self._closed = True

    async def quiet(self, seconds: float) -> None:
        """Returns when no call has come in for so long."""
        seen = -1
        while seen != self.calls:
            seen = self.calls
            await asyncio.sleep(seconds)
