"""From the bytes of a request to its message, and from an answer to its bytes: interceptors around
this one see bytes, those further in see messages."""

from collections.abc import Callable
from typing import Any, cast

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError

from towline_broker.domain.errors import InvalidField
from towline_broker.interceptors.parts import check_parts
from towline_broker.interceptors.wrapping import Behaviour, Handler, WrappingInterceptor
from towline_broker.streaming import STREAMS


class RequestReader(WrappingInterceptor):
    """Raises InvalidField for what is no request, where the interceptors around it can hear it;
    they see bytes, and may refuse a call before it is worth any work.

    ``most_items``: of the largest batch that any call may bring.
    """

    def __init__(self, most_items: int) -> None:
        self._most_items = most_items
        self._reads: dict[str, Callable[[bytes], Any]] = {}
        self._writes: dict[str, Callable[[Any], Any]] = {}

    def wrap_handler(self, method: str, handler: Any) -> Handler:
        if method in STREAMS:  # they read their messages themselves
            return cast(Handler, handler)
        parse, write = handler.request_deserializer, handler.response_serializer
        name = method.removeprefix("/").replace("/", ".")
        kind = descriptor_pool.Default().FindMethodByName(name).input_type
        most_items = self._most_items

        def read(raw: bytes) -> Any:
            check_parts(raw, kind, most_items)
            try:
                return parse(raw)
            except DecodeError:
                unread = "the bytes of the request are no message of this method"
                raise InvalidField("", unread) from None

        self._reads[method] = read
        # A handler that streams has written its answer.
        self._writes[method] = _as_it_is if handler.response_streaming else write
        bare = handler._replace(request_deserializer=None, response_serializer=None)
        return super().wrap_handler(method, bare)

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        read, write = self._reads[method], self._writes[method]

        async def answer(raw: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            return write(await behaviour(read(raw), context))

        return answer


def _as_it_is(answer: Any) -> Any:
    return answer
