"""Requests are taken in once it is known who calls: what a stranger sends is not read.

gRPC gives a handler its request when all of it has come. A handler in the form of a stream, which
looks the same on the wire, is called as soon as there are the metadata, and takes its request when
it wants to. Until then no more of it comes than the window of one stream.
"""

import asyncio
from typing import Any, cast

import grpc

from towline_broker.interceptors.wrapping import Behaviour, Handler, WrappingInterceptor
from towline_broker.streaming import STREAMS

Context = grpc.aio.ServicerContext[Any, Any]


class RequestIntake(WrappingInterceptor):
    """Stands where it is known who calls; further in, a request is there as a whole."""

    def wrap_handler(self, method: str, handler: Any) -> Handler:
        if method in STREAMS:  # they take their messages themselves, one after the other
            return cast(Handler, handler)
        return streamed(handler, self.wrap(method, handler.unary_unary or handler.unary_stream))

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def take_in(_: Any, context: Context) -> Any:
            return await behaviour(await request_of(context), context)

        return take_in


def streamed(handler: Any, behaviour: Behaviour) -> Handler:
    """The handler in the form that takes a stream of requests, with another behaviour, which gets
    none of them."""
    form = "stream_stream" if handler.response_streaming else "stream_unary"
    changed: Handler = handler._replace(
        request_streaming=True, unary_unary=None, unary_stream=None, **{form: behaviour}
    )
    return changed


async def request_of(context: Context) -> Any:
    """The one request of the call."""
    request = await context.read()
    if request is grpc.aio.EOF:
        # The call is over before its request was there: nobody waits for an answer.
        raise asyncio.CancelledError
    return request
