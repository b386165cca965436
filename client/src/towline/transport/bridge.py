"""A channel of threads, used from asyncio.

In older releases of grpcio (1.71 is one, 1.85 is none) grpc.aio has one queue of events for all
loops of a process and wakes each of them for each event; those that come late to it log an error:
https://github.com/grpc/grpc/issues/25364. A client in the process of its broker, which has a loop
of its own, therefore makes its calls without grpc.aio.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc


class BridgedChannel:
    """What the SDK uses of grpc.aio.Channel: unary calls, and ``close``. For any event loop."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._closed = False

    def unary_unary(self, *args: Any, **options: Any) -> Callable[..., Any]:
        """Return a function that makes the call and is awaited."""
        method = self._channel.unary_unary(*args, **options)

        async def call(request: Any, **options: Any) -> Any:
            try:
                future = method.future(request, **options)
            except ValueError as error:  # that the channel is closed
                raise grpc.aio.UsageError(str(error)) from None
            try:
                return await _answer(future)
            except grpc.RpcError:
                if self._closed:  # as grpc.aio has it, a call of a closed channel is cancelled
                    raise asyncio.CancelledError from None
                raise

        return call

    def stream_stream(self, *args: Any, **options: Any) -> Callable[..., Any]:
        """A stub makes all calls of its service, also the streams, for which this is no way."""
        return _no_stream

    async def close(self, grace: float | None = None) -> None:
        self._closed = True
        self._channel.close()


def _no_stream(*args: Any, **options: Any) -> Any:
    raise grpc.aio.UsageError("a client in the process of its broker makes unary calls only")


async def _answer(future: grpc.Future[Any]) -> Any:
    """Return what the call returns, or raise what it raises; cancelled, it cancels the call."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def tell(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(over.set)

    future.add_done_callback(tell)
    try:
        await over.wait()
    except asyncio.CancelledError:
        future.cancel()
        raise
    try:
        return future.result()
    except grpc.FutureCancelledError:
        raise asyncio.CancelledError from None
