"""How long streams last: each has an end, and is told of it in time."""

import asyncio
import time
from collections.abc import Callable
from random import Random
from typing import Any, Self

import grpc

from towline_broker.core.waiting import WaitLimit
from towline_broker.domain.errors import Draining, StreamOver, TowlineError, Unauthenticated
from towline_broker.domain.identity import credentials_end_at
from towline_broker.domain.time import Micros, to_seconds

#: Seconds between the notice that a stream is closing and its end.
CLOSING_GRACE = 5.0
#: The end comes so long before the caller's own deadline, in seconds, so that it is told of it.
DEADLINE_MARGIN = 0.25
#: Of its age, by which the life of a stream is shorter at most: those that were opened at the same
#: time do not end together.
SPREAD = 0.1


class OpenStreams:
    """All that are open. ``limit``: they take up places among the calls that wait."""

    def __init__(self, limit: WaitLimit, most_age: Callable[[], Micros]) -> None:
        self.limit = limit
        self._most_age = most_age
        self._lives: set[Lifetime] = set()
        self._draining = False
        self._rng = Random()  # noqa: S311 -- spreads ends, no secret

    def new_life(self, context: "grpc.aio.ServicerContext[Any, Any]") -> "Lifetime":
        """To be ended, or left as a context, once the stream is over. Raises Draining."""
        if self._draining:
            raise Draining
        age = to_seconds(self._most_age()) * (1 - SPREAD * self._rng.random())
        remaining: Any = context.time_remaining()
        return Lifetime(self._lives, age, remaining, credentials_end_at())

    def drain(self) -> None:
        """Every stream is told that it ends, and no other begins."""
        self._draining = True
        for life in list(self._lives):
            life.close(Draining())


class Lifetime:
    """Of one stream. ``age`` and ``remaining`` (until the caller's deadline) in seconds,
    ``credentials_end`` as Unix time in seconds."""

    def __init__(
        self,
        lives: "set[Lifetime]",
        age: float,
        remaining: float | None,
        credentials_end: float | None,
    ) -> None:
        self._lives = lives
        ends: list[tuple[float, TowlineError]] = [
            (
                age + CLOSING_GRACE,
                StreamOver("the stream has reached its greatest age: open another"),
            )
        ]
        if remaining is not None:
            ends.append(
                (remaining - DEADLINE_MARGIN, StreamOver("the deadline of the stream is near"))
            )
        if credentials_end is not None:
            ended = Unauthenticated("the credentials ran out while the stream was open: get others")
            ends.append((credentials_end - time.time(), ended))
        self._loop = asyncio.get_running_loop()
        ends_in, self._error = min(ends, key=lambda end: end[0])
        self._ends_at = self._loop.time() + ends_in
        lives.add(self)
        self._timer: asyncio.TimerHandle | None = None
        self._on_close: Callable[[], None] = _nothing
        self._on_end: Callable[[TowlineError], None] = _nothing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    async def read_first(self, context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
        """The first message of a stream that nothing can be said to before. Raises why its life
        ended without one."""
        over: TowlineError | None = None

        def end(error: TowlineError) -> None:
            nonlocal over
            over = error
            reading.reschedule(self._loop.time())

        self.begin(_nothing, end)
        try:
            async with asyncio.timeout(None) as reading:
                return await context.read()
        except TimeoutError:
            if over is None:
                raise
            raise over from None

    def begin(self, on_close: Callable[[], None], on_end: Callable[[TowlineError], None]) -> None:
        """``on_close``: called once, when the end is near; ``on_end``: at the end, with why. Who
        begins later is told in place of who began before."""
        self._on_close, self._on_end = on_close, on_end
        self._after(self._ends_at - CLOSING_GRACE, self._close)

    def close(self, error: TowlineError) -> None:
        """The end is near, sooner than it was to be."""
        near = self._loop.time() + CLOSING_GRACE
        if near < self._ends_at:
            self._ends_at, self._error = near, error
            if self._timer is not None:
                self._close()

    def end(self) -> None:
        """The stream is over."""
        self._lives.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _close(self) -> None:
        on_close, self._on_close = self._on_close, _nothing
        self._after(self._ends_at, self._end)
        on_close()

    def _end(self) -> None:
        self._on_end(self._error)

    def _after(self, moment: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(moment, call)


def _nothing(*_: object) -> None:
    pass
