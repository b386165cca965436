"""Wrapping the handlers of services: of our own, unless an interceptor is for others."""

import abc
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

Behaviour = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]
#: Generic for the type checker only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class WrappingInterceptor(grpc.aio.ServerInterceptor):
    """Template: a subclass says in :meth:`wrap` what happens around a handler.

    Handlers are coroutine functions; those that stream read and write through their context.
    """

    #: Of the methods that are wrapped.
    prefix = "/towline."

    def __init__(self) -> None:
        #: By method, with the handler that is wrapped: a call then costs one look-up.
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    @abc.abstractmethod
    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        """A coroutine function to be called in the place of ``behaviour``."""

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(self.prefix):
            return handler
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self.wrap_handler(method, handler))
        return known[1]

    def wrap_handler(self, method: str, handler: Any) -> Handler:
        # RpcMethodHandler is a named tuple; just one of these four fields is filled.
        for field in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            behaviour = getattr(handler, field)
            if behaviour is not None:
                wrapped: Handler = handler._replace(**{field: self.wrap(method, behaviour)})
                return wrapped
        raise TypeError(f"{method} has no handler")
