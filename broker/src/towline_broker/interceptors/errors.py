"""Errors on their way out: the outermost interceptor."""

import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from towline_broker.domain.errors import InvalidField, StoreError, TowlineError
from towline_broker.interceptors.parts import check_parts
from towline_broker.interceptors.wrapping import Behaviour, Handler, WrappingInterceptor
from towline_broker.status import WireError, internal_error, wire_error

log = logging.getLogger("towline.broker")


class ErrorsInterceptor(WrappingInterceptor):
    """What the broker raises on purpose becomes its gRPC status; anything else becomes INTERNAL
    and tells the client nothing but a reference, under which the log has the rest.

    ``most_items``: of the largest batch that any call may bring.
    """

    def __init__(self, most_items: int) -> None:
        super().__init__()
        self._most_items = most_items

    def wrap_handler(self, method: str, handler: Any) -> "Handler":
        name = method.removeprefix("/").replace("/", ".")
        kind = descriptor_pool.Default().FindMethodByName(name).input_type
        read = partial(self._read, handler.request_deserializer, kind)
        return super().wrap_handler(method, handler._replace(request_deserializer=read))

    def _read(self, parse: Callable[[bytes], Any], kind: Descriptor, raw: bytes) -> Any:
        """The request, or what is wrong with it: raised from here, an error would go past all
        interceptors, and its text to the client."""
        try:
            check_parts(raw, kind, self._most_items)
            return parse(raw)
        except InvalidField as error:
            return error
        except DecodeError:
            return InvalidField("", "the bytes of the request are no message of this method")

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            try:
                if isinstance(request, InvalidField):
                    raise request
                return await behaviour(request, context)
            except TowlineError as error:
                if isinstance(error, StoreError):
                    log.error("%s: %s", method, error)
                wire = wire_error(error)
            except grpc.aio.BaseError:  # gRPC's own: aborted by a handler, or the call is over
                raise
            except Exception:
                reference = secrets.token_hex(6)
                log.exception("%s failed unexpectedly; reference %s", method, reference)
                wire = internal_error(reference)
            return await _abort(context, wire)

        return answer


async def _abort(context: grpc.aio.ServicerContext[Any, Any], wire: WireError) -> None:
    await context.abort(wire.code, wire.message, wire.trailing_metadata())
