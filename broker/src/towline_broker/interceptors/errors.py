"""Errors on their way out: the outermost interceptor."""

import logging
import secrets
from typing import Any

import grpc

from towline_broker import streaming
from towline_broker.domain.errors import StoreError, TowlineError
from towline_broker.domain.events import event
from towline_broker.interceptors.in_measure import InMeasure, and_more
from towline_broker.interceptors.requests import current_request
from towline_broker.interceptors.wrapping import Behaviour, WrappingInterceptor
from towline_broker.status import WireError, internal_error, wire_error

log = logging.getLogger("towline.broker")


class ErrorsInterceptor(WrappingInterceptor):
    """What the broker raises on purpose becomes its gRPC status; anything else becomes INTERNAL
    and tells the client nothing but a reference, under which the log has the rest."""

    def __init__(self) -> None:
        #: By method and kind of error: while a store is away, each call would be a line.
        self._lines = InMeasure()

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        def describe(error: Exception) -> WireError:
            if isinstance(error, StoreError):
                self._tell(method, error)
            return streaming.describe(error)

        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            if method in streaming.STREAMS:
                streaming.stream_scope().describe = describe
            try:
                return await behaviour(request, context)
            except TowlineError as error:
                if isinstance(error, StoreError):
                    self._tell(method, error)
                wire = wire_error(error)
            except grpc.aio.BaseError:  # gRPC's own: aborted by a handler, or the call is over
                raise
            except Exception:
                known = current_request()
                reference = secrets.token_hex(6) if known is None else known.id
                log.exception(
                    "%s failed unexpectedly; reference %s",
                    method,
                    reference,
                    extra=event("defect", method=method, reference=reference),
                )
                wire = internal_error(reference)
            # gRPC keeps the error of an aborted call with the call, and with it this frame, until
            # the garbage collector comes by: it is not to keep 64 MiB of a request until then.
            request = None
            return await _abort(context, wire)

        return answer

    def _tell(self, method: str, error: StoreError) -> None:
        kind = type(error).__name__
        passed_over = self._lines.passed_over((method, kind))
        if passed_over is not None:
            log.error(
                "%s: %s%s",
                *(method, error, and_more(passed_over)),
                extra=event(
                    "call_failed", method=method, reason=str(error), passed_over=passed_over
                ),
            )


async def _abort(context: grpc.aio.ServicerContext[Any, Any], wire: WireError) -> None:
    await context.abort(wire.code, wire.message, wire.trailing_metadata())
