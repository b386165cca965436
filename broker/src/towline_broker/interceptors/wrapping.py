"""Wrapping the handlers of services: of our own, unless an interceptor is for others.

It is done once, when a server is put together. gRPC has interceptors of its own, which are asked
again at each call which handler it is to have: a coroutine each, before any of them has done a
thing.
"""

import abc
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc

Behaviour = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]
#: Generic for the type checker only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class WrappingInterceptor(abc.ABC):
    """Template: a subclass says in :meth:`wrap` what happens around a handler.

    Handlers are coroutine functions; those that stream read and write through their context.
    """

    #: Of the methods that are wrapped.
    prefix = "/towline."

    @abc.abstractmethod
    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        """What is called in the place of ``behaviour``: a coroutine function, or any other that
        gives something to be awaited, if one that is wrapped further out is a coroutine
        function."""

    def wrap_handler(self, method: str, handler: Any) -> Handler:
        # RpcMethodHandler is a named tuple; just one of these four fields is filled.
        for field in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            behaviour = getattr(handler, field)
            if behaviour is not None:
                wrapped: Handler = handler._replace(**{field: self.wrap(method, behaviour)})
                return wrapped
        raise TypeError(f"{method} has no handler")


def wrapped(interceptors: Sequence[WrappingInterceptor], method: str, handler: Handler) -> Handler:
    """The handler with all of these around it that are for the method; the first is outermost."""
    for interceptor in reversed(interceptors):
        if method.startswith(interceptor.prefix):
            handler = interceptor.wrap_handler(method, handler)
    return handler
