"""The middleware of a worker, put around its handlers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from towline.context import JobContext
from towline.middleware import layers
from towline.middleware.interface import AttemptEnd
from towline.middleware.shapes import listed, listeners, wrappers

logger = logging.getLogger("towline.worker")


class HandlerMiddleware:
    """``handle`` and ``ended`` of each middleware given, the first being the outermost.

    has_loop     whether async generators can be run
    wraps        False: there is nothing around a handler, and nothing to call
    needs_loop   there are async generators, so that ``run`` will not do
    listens      whether anyone is to be told how an attempt ended

    Raises ConfigurationError when one of them is no middleware.
    """

    def __init__(self, given: Iterable[object] = (), *, has_loop: bool = False) -> None:
        items = listed(given)
        self._wrappers = wrappers(items, "handle", no_loop="" if has_loop else 'pool="async"')
        self._listeners = listeners(items)
        self.wraps = bool(self._wrappers)
        self.needs_loop = any(wrapper.is_async for wrapper in self._wrappers)
        self.listens = bool(self._listeners)

    def run(self, job: object, context: JobContext, handler: Callable[[], Any]) -> Any:
        """Call the handler with everything around it, in this thread."""
        return layers.run(self._wrappers, (job, context), handler)

    async def run_async(
        self, job: object, context: JobContext, handler: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Await the handler with everything around it, in this task."""
        return await layers.run_async(self._wrappers, (job, context), handler)

    def ended(self, end: AttemptEnd, on_error: Callable[[BaseException], None]) -> None:
        """Tell how an attempt ended; what a listener raises is logged and goes to ``on_error``."""
        for listener in self._listeners:
            try:
                listener(end)
            except BaseException as error:  # also what would end a thread or a loop
                logger.error("ended() of a middleware raised %s", type(error).__name__)
                on_error(error)
