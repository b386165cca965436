"""The middleware of a client, put around its dispatches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from towline.middleware import layers
from towline.middleware.interface import MiddlewareError
from towline.middleware.outgoing import OutgoingJob
from towline.middleware.shapes import listed, listeners, wrappers

if TYPE_CHECKING:
    from towline.requests import Pushed
    from towline.v1 import job_pb2


class PushMiddleware:
    """``push`` of each middleware given, the first being the outermost.

    It is run once for a dispatch or a dispatch_batch of a list, and once for each part of a batch
    that is pushed while it is read; in the thread or task and in the context of the caller.
    ``wraps`` is False when there is nothing to run.

    Raises ConfigurationError when one of them is no middleware.
    """

    def __init__(self, given: Iterable[object] = (), *, has_loop: bool = False) -> None:
        items = listed(given)
        self._wrappers = wrappers(items, "push", no_loop="" if has_loop else "AsyncClient")
        listeners(items)  # no client calls them, and yet a wrong one is better told here
        self.wraps = bool(self._wrappers)

    def run(
        self, messages: Sequence[job_pb2.Job], push: Callable[[], list[Pushed]]
    ) -> list[Pushed]:
        """Push ``messages``, their headers as the middleware leaves them."""
        jobs = [OutgoingJob(message) for message in messages]

        def call() -> list[Pushed]:
            _write_headers(jobs)
            return push()

        return _checked(layers.run(self._wrappers, (jobs,), call), len(jobs))

    async def run_async(
        self, messages: Sequence[job_pb2.Job], push: Callable[[], Awaitable[list[Pushed]]]
    ) -> list[Pushed]:
        """``run`` on a loop."""
        jobs = [OutgoingJob(message) for message in messages]

        async def call() -> list[Pushed]:
            _write_headers(jobs)
            return await push()

        return _checked(await layers.run_async(self._wrappers, (jobs,), call), len(jobs))


def _write_headers(jobs: Sequence[OutgoingJob]) -> None:
    for job in jobs:
        job.write_headers()


def _checked(pushed: Any, expected: int) -> list[Pushed]:
    """What a middleware gave back instead of the answer must fit the question."""
    from towline.requests import Pushed

    if (
        isinstance(pushed, list)
        and len(pushed) == expected
        and all(isinstance(item, Pushed) for item in pushed)
    ):
        return pushed
    raise MiddlewareError(
        f"push() of a middleware skipped the push or changed its result: expected a list of "
        f"{expected} towline.requests.Pushed, one for each job"
    )
