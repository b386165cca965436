"""Reserves of one job that wait together, served by one run of the script.

What a script does once for each run is most of the cost of a single job. None waits for company:
those that come in the same turn of the event loop go together, and only while the queue has a run
under way do further ones gather, which would come behind it at the server anyway.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from towline_broker.domain.jobs import Leased
from towline_broker.drivers.interface import ReserveRequest

#: Requests that are served by one run.
MOST_OF_RUN = 256


def may_be_joined(request: ReserveRequest) -> bool:
    return request.max_jobs == 1 and len(request.queues) == 1


class _Waiting:
    __slots__ = ("leased", "request")

    def __init__(
        self, request: ReserveRequest, leased: "asyncio.Future[list[Leased] | None]"
    ) -> None:
        self.request = request
        #: Cancelled if its caller is gone.
        self.leased = leased


class Together:
    """``serve`` gets requests for the same queue, no two of them with the same id, and answers
    each."""

    def __init__(
        self, serve: Callable[[Sequence[ReserveRequest]], Awaitable[Sequence[list[Leased] | None]]]
    ) -> None:
        self._serve = serve
        #: By queue who waits for a run; of queues that have one under way.
        self._queues: dict[str, list[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, request: ReserveRequest) -> list[Leased] | None:
        """None: it has to be served by itself. Raises what ``serve`` raises."""
        loop = asyncio.get_running_loop()
        [name] = request.queues
        waiting = _Waiting(request, loop.create_future())
        if (queue := self._queues.get(name)) is not None:
            queue.append(waiting)
        else:
            self._queues[name] = [waiting]
            task = loop.create_task(self._run(name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await waiting.leased

    async def _run(self, name: str) -> None:
        """For all that have come until the event loop comes to this, until nobody waits."""
        try:
            while self._queues[name]:
                taken, self._queues[name] = _first(self._queues[name])
                if taken:
                    await self._answer(taken)
        finally:
            del self._queues[name]

    async def _answer(self, taken: Sequence[_Waiting]) -> None:
        try:
            answers = await self._serve([each.request for each in taken])
        except BaseException as error:  # whatever it is, nobody may be left waiting
            for each in taken:
                if each.leased.done():
                    continue
                if isinstance(error, asyncio.CancelledError):
                    each.leased.cancel()
                else:
                    each.leased.set_exception(error)
                    each.leased.exception()  # a caller may go in this moment
            if not isinstance(error, Exception):
                raise
            return
        for each, leased in zip(taken, answers, strict=True):
            if not each.leased.done():
                each.leased.set_result(leased)


def _first(waiting: Sequence[_Waiting]) -> tuple[list[_Waiting], list[_Waiting]]:
    """Those to be served by the next run, and who stays; without those whose callers are gone. Of
    those with the same request id all but one are repetitions, which are answered by what that one
    was granted: they stay."""
    first: list[_Waiting] = []
    rest: list[_Waiting] = []
    ids: set[str] = set()
    for each in waiting:
        request_id = each.request.request_id
        if each.leased.done():
            continue
        if len(first) >= MOST_OF_RUN or request_id in ids:
            rest.append(each)
            continue
        first.append(each)
        if request_id:
            ids.add(request_id)
    return first, rest
