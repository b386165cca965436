"""The services of a broker as gRPC asks for them: by the name of a method, once for each call."""

from collections.abc import Sequence
from typing import Any

import grpc

from towline_broker.interceptors.wrapping import Handler, WrappingInterceptor, wrapped


class Handlers(grpc.GenericRpcHandler):
    """Of all services, each handler within its interceptors, of which the first is outermost.

    The generated code adds services to this, in the place of a server: to one it would add each
    method by itself as well, and for each call a server of grpc.aio goes through all of these, to
    wait for a call to each.
    """

    def __init__(self, interceptors: Sequence[WrappingInterceptor]) -> None:
        self._interceptors = interceptors
        self._services: list[grpc.GenericRpcHandler] = []
        #: By method, as far as they were called.
        self._wrapped: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, services: Sequence[grpc.GenericRpcHandler]) -> None:
        self._services.extend(services)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """The same once more, method by method."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """None: there is no such method."""
        found = self._wrapped.get(handler_call_details.method)
        return self._find(handler_call_details) if found is None else found

    def _find(self, details: grpc.HandlerCallDetails) -> "Handler | None":
        for service in self._services:
            handler = service.service(details)
            if handler is not None:
                found = wrapped(self._interceptors, details.method, handler)
                self._wrapped[details.method] = found
                return found
        return None
