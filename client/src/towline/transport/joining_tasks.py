"""Pushes of several tasks travel together; towline.transport.lines tells how.

No caller's task makes a call in which jobs of others travel, so that one that is cancelled, or runs
out of time, is of no concern to the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import grpc

from towline.errors import ClientClosed, TowlineError
from towline.transport.lines import (
    GATHERING,
    Line,
    deliver,
    parts_of,
    request_for,
    too_late,
)
from towline.v1 import job_pb2
from towline.v1.queue_service_pb2 import PushRequest, PushResponse


class _Caller:
    """A task that waits for the outcome of its job."""

    def __init__(self, message: job_pb2.Job, timeout: float) -> None:
        self.message = message
        self.size = message.ByteSize()
        self.deadline = time.monotonic() + timeout
        self.outcome: asyncio.Future[PushResponse] = asyncio.get_running_loop().create_future()

    def arrived(self, response: PushResponse) -> None:
        if not self.outcome.done():
            self.outcome.set_result(response)

    def failed(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


class JoiningTasks:
    """The pushes of one event loop over one channel.

    ``push`` makes a call and raises what the client is to raise; ``call`` makes one as well, and
    raises as grpc does, ``error_of`` telling what that means.
    """

    def __init__(
        self,
        push: Callable[[PushRequest, float], Awaitable[PushResponse]],
        call: Callable[[PushRequest, float], Awaitable[PushResponse]],
        error_of: Callable[[grpc.RpcError], TowlineError],
    ) -> None:
        self._push_alone = push
        self._call = call
        self._error_of = error_of
        self._lines: dict[str, Line[_Caller]] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def push(self, request: PushRequest, timeout: float) -> PushResponse:
        """Push the one job of a request. Raises as AsyncTransport.push does."""
        [message] = request.jobs
        line = self._lines.get(message.queue)
        if line is None:
            line = self._lines[message.queue] = Line(message.queue)
        if line.go():
            try:
                return await self._push_alone(request, timeout)
            finally:
                self._ended(line)
        return await self._ride(line, _Caller(message, timeout))

    def close(self) -> None:
        """End the waiting of all callers, with ClientClosed."""
        for line in self._lines.values():
            for caller in line.abandon():
                caller.failed(ClientClosed())

    async def _ride(self, line: Line[_Caller], caller: _Caller) -> PushResponse:
        loop = asyncio.get_running_loop()
        if line.add(caller):
            loop.call_later(GATHERING, self._leave_late, line, caller)
        if line.full:
            self._send(line, line.leave())
        # A loop may count time in its own way.
        alarm = loop.call_later(caller.deadline - time.monotonic(), self._give_up, line, caller)
        try:
            return await caller.outcome
        finally:
            alarm.cancel()
            if line.remove(caller):
                self._send(line, line.leave())  # it may have been the one that they waited for

    def _leave_late(self, line: Line[_Caller], first: _Caller) -> None:
        if line.holds(first):
            self._send(line, line.leave())

    def _give_up(self, line: Line[_Caller], caller: _Caller) -> None:
        caller.failed(too_late(sent=not line.holds(caller)))

    def _send(self, line: Line[_Caller], leaving: Sequence[_Caller]) -> None:
        """Start a call for those who leave together, if any do."""
        if leaving:
            task = asyncio.create_task(self._carry(line, leaving))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _carry(self, line: Line[_Caller], passengers: Sequence[_Caller]) -> None:
        try:
            deliver(passengers, await self._call(*request_for(passengers)))
        except grpc.RpcError as error:
            self._refused(line, passengers, error)
        except asyncio.CancelledError:  # so does grpc end the calls of a channel that is closed
            for caller in passengers:
                caller.failed(ClientClosed())
        except Exception as error:
            for caller in passengers:
                caller.failed(error)
        # Those who have just got their answer come first: they may be back with another job.
        asyncio.get_running_loop().call_soon(self._ended, line)

    def _refused(
        self, line: Line[_Caller], passengers: Sequence[_Caller], error: grpc.RpcError
    ) -> None:
        parts = parts_of(passengers, self._error_of(error))
        if not parts:
            for caller in passengers:
                caller.failed(self._error_of(error))  # its own: each is raised in another task
        for part in parts:
            line.divided()
            self._send(line, part)

    def _ended(self, line: Line[_Caller]) -> None:
        """Take note of the end of a call; those who have gathered leave now."""
        if line.ended():
            del self._lines[line.queue]
        self._send(line, line.leave())
