"""Which calls are under way, for a broker that goes down without breaking any."""

import asyncio
import time
from typing import Any

import grpc

from towline_broker.domain.errors import Draining
from towline_broker.interceptors.wrapping import Behaviour, WrappingInterceptor


class RunningCalls(WrappingInterceptor):
    """Counts calls, and refuses them once closed."""

    def __init__(self) -> None:
        super().__init__()
        self._running = 0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._last_call = 0.0

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def count(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            self._last_call = time.monotonic()
            if self._closed:
                raise Draining
            self._running += 1
            self._idle.clear()
            try:
                return await behaviour(request, context)
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()

        return count

    async def idle(self) -> None:
        """Returns when no call is under way."""
        await self._idle.wait()

    def close(self) -> None:
        """Every further call is refused with Draining."""
        self._closed = True

    async def quiet(self, seconds: float) -> None:
        """Returns when no call has come in for so long."""
        since = time.monotonic()
        while True:
            rest = max(since, self._last_call) + seconds - time.monotonic()
            if rest <= 0:
                return
            await asyncio.sleep(rest)
