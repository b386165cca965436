"""Small calls of one kind that a store is given as one.

With a job a call, most of what a store does for it is done once for each call: a transaction or a
record of a journal, a task, a look at the clock. Calls that have come in the same turn of the event
loop share that. None waits for company: only while the store is busy with two such groups already,
further calls gather in a third, which would have to wait for it anyway. And with a store that
answers at once there is no such thing as company: each call is done as it comes.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from towline_broker.core.line import CROWD, MOST_WAIT
from towline_broker.core.owned import OwnedTasks
from towline_broker.domain.errors import StoreError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

#: Items of a call that is joined with others, and of a group of calls.
MOST_OF_CALL = 16
MOST_OF_GROUP = 512
#: Bytes of a group's worth of items that may wait for a store that does not move: a stall of the
#: disk must not become one of the memory.
MOST_BYTES = 64 * 1024 * 1024
#: Groups that a store is given at the same time.
AT_ONCE = 2


class _Call(Generic[Item, Answer]):
    __slots__ = ("answers", "items", "since")

    def __init__(
        self, items: Sequence[Item], answers: "asyncio.Future[Sequence[Answer]]", since: float
    ) -> None:
        self.items = items
        #: When it came, by the clock of the event loop.
        self.since = since
        #: Cancelled if its caller is gone.
        self.answers = answers

    def succeed(self, answers: Sequence[Answer]) -> None:
        if not self.answers.done():
            self.answers.set_result(answers)

    def fail(self, error: Exception) -> None:
        if not self.answers.done():
            self.answers.set_exception(error)
            self.answers.exception()  # also of a caller that goes in this moment somebody has heard


class Joining(Generic[Item, Answer]):
    """``do`` has a store do it, in the order of the items: an answer for each. If it fails and
    nothing says that it would fail for each of the calls, each is done for itself, so it must be
    safe to repeat. ``at_once``: it hardly ever waits for anything. ``weigh``: bytes of an item."""

    def __init__(
        self,
        do: Callable[[Sequence[Item]], Coroutine[Any, Any, Sequence[Answer]]],
        owned: OwnedTasks,
        *,
        at_once: bool = False,
        weigh: Callable[[Item], int] | None = None,
    ) -> None:
        self._at_once = at_once
        self._weigh = weigh
        self._do = do
        self._owned = owned
        self._waiting: list[_Call[Item, Answer]] = []
        #: Groups that were begun and have not ended.
        self._groups = 0

    @property
    def crowded(self) -> bool:
        """Whether so much waits, and for so long, that a further call should be refused."""
        if self._groups < AT_ONCE or len(self._waiting) < CROWD:
            return False  # a group that was begun will take them
        if asyncio.get_running_loop().time() - self._waiting[0].since <= MOST_WAIT:
            return False
        # What fits into the next group waits no longer than one call would: many callers of one job
        # each, and a single slow commit, are no overload.
        if len(self._waiting) > MOST_OF_GROUP:  # each has an item at least
            return True
        return sum(len(call.items) for call in self._waiting) > MOST_OF_GROUP or self._is_heavy()

    def _is_heavy(self) -> bool:
        if self._weigh is None:
            return False
        return sum(self._weigh(item) for call in self._waiting for item in call.items) > MOST_BYTES

    async def ask(self, items: Sequence[Item]) -> Sequence[Answer]:
        """The answers to these; it is done also if the caller is cancelled (P9). Raises what ``do``
        raises."""
        if self._at_once:
            return await self._owned.run_at_once(self._do(items))
        if len(items) > MOST_OF_CALL:
            # What has come before it goes before it.
            if self._waiting:
                self._begin()
            return await self._owned.run(self._do(items))
        loop = asyncio.get_running_loop()
        call = _Call[Item, Answer](items, loop.create_future(), loop.time())
        self._waiting.append(call)
        if len(self._waiting) == 1 and self._groups < AT_ONCE:
            self._begin()
        return await call.answers

    def _begin(self) -> None:
        self._groups += 1
        self._owned.start(self._take())

    async def _take(self) -> None:
        """A group: all that have come until the event loop comes to this."""
        try:
            calls, self._waiting = _up_to(self._waiting, MOST_OF_GROUP)
            if calls:
                await self._together(calls)
        finally:
            self._groups -= 1
            if self._waiting and self._groups < AT_ONCE:
                self._begin()

    async def _together(self, calls: Sequence[_Call[Item, Answer]]) -> None:
        try:
            answers = await self._do([item for call in calls for item in call.items])
        except Exception as error:
            if len(calls) > 1 and not isinstance(error, StoreError):
                for call in calls:
                    await self._together([call])
            else:
                self._owned.note(error)
                for call in calls:
                    call.fail(error)
            return
        first = 0
        for call in calls:
            end = first + len(call.items)
            call.succeed(answers[first:end])
            first = end


def _up_to(
    calls: list[_Call[Item, Answer]], most: int
) -> tuple[list[_Call[Item, Answer]], list[_Call[Item, Answer]]]:
    """The first of them that have no more items together, one at least, and the rest."""
    if len(calls) * MOST_OF_CALL <= most:
        return calls, []
    size = 0
    for index, call in enumerate(calls):
        size += len(call.items)
        if size > most and index:
            return calls[:index], calls[index:]
    return calls, []
