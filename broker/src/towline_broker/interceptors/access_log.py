"""The access log: who called what, how it ended, how long it took, which jobs it was about.

At level DEBUG, but for what an operator does to a queue or a worker: that is told at INFO, unless
it was refused.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping
from typing import Any

import grpc

from towline_broker.domain.errors import TowlineError
from towline_broker.domain.events import event
from towline_broker.domain.identity import ANONYMOUS, current_identity
from towline_broker.interceptors.requests import Request, begin, current_request
from towline_broker.interceptors.subjects import subject_of
from towline_broker.interceptors.wrapping import Behaviour, WrappingInterceptor
from towline_broker.status import wire_error
from towline_broker.streaming import STREAMS, stream_scope

log = logging.getLogger("towline.access")

#: Ids of jobs that are told of one call.
MOST_JOBS = 20
#: What changes the work of others.
ACTIONS = frozenset(
    {
        "/towline.v1.AdminService/MoveQueue",
        "/towline.v1.AdminService/PauseQueue",
        "/towline.v1.AdminService/PurgeQueue",
        "/towline.v1.AdminService/ResetStats",
        "/towline.v1.AdminService/ResumeQueue",
        "/towline.v1.AdminService/StopWorker",
        "/towline.v1.DeadLetterService/DiscardDead",
        "/towline.v1.DeadLetterService/RequeueDead",
    }
)
#: Nothing was done: at level INFO whoever reaches the port could fill the disk with such lines.
#: Calls without credentials or rights are told of in measure, by those who refuse them.
REFUSED = frozenset(
    {"UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
)


class AccessLog(WrappingInterceptor):
    """Stands where errors still have their reasons."""

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        level, streams = level_of(method), method in STREAMS

        def note(raw: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Awaitable[Any]:
            request = Request(method, context)
            begin(request)
            if streams:
                request.about = stream_scope().about
            if log.isEnabledFor(level):
                return tell(request, raw, context)
            return behaviour(raw, context)

        async def tell(
            request: Request, raw: Any, context: grpc.aio.ServicerContext[Any, Any]
        ) -> Any:
            began, code = time.perf_counter(), "OK"
            try:
                return await behaviour(raw, context)
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except Exception as error:
                code = wire_error(error).code.name if isinstance(error, TowlineError) else "UNKNOWN"
                raise
            finally:
                took = (time.perf_counter() - began) * 1_000
                _tell(logging.DEBUG if code in REFUSED else level, request, code, took)

        return note


class AccessDetails(WrappingInterceptor):
    """Stands where requests are messages, and adds what they say."""

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        level = level_of(method)
        if method in STREAMS:  # tells of itself
            return behaviour

        def look_if_told(
            message: Any, context: grpc.aio.ServicerContext[Any, Any]
        ) -> Awaitable[Any]:
            if log.isEnabledFor(level):
                return look(message, context)
            return behaviour(message, context)

        async def look(message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            reply = None
            try:
                reply = await behaviour(message, context)
                return reply
            finally:
                _add_details(method, message, reply)
                # See the interceptor of errors: the frame is kept, and with it the request.
                message = reply = None

        return look_if_told


def level_of(method: str) -> int:
    return logging.INFO if method in ACTIONS else logging.DEBUG


def _tell(level: int, request: Request, code: str, milliseconds: float) -> None:
    caller = _caller()
    log.log(
        level,
        "%s%s from %s: %s in %.1f ms%s",
        request.method,
        f" by {_plain(caller['caller'])}" if caller else "",
        *(request.peer, code, milliseconds, _in_words(request.about)),
        extra=event(
            "call",
            method=request.method,
            peer=request.peer,
            **caller,
            code=code,
            milliseconds=round(milliseconds, 3),
            **request.about,
        ),
    )


def _in_words(about: Mapping[str, object]) -> str:
    return "".join(
        f"; {name} {_plain(' '.join(map(str, value)) if isinstance(value, list) else value)}"
        for name, value in about.items()
    )


def _plain(value: object) -> str:
    """On one line, whatever a caller has put into it."""
    return ascii(str(value))[1:-1]


def _caller() -> dict[str, str]:
    identity = current_identity()
    return {} if identity is ANONYMOUS else {"caller": identity.name}


def _add_details(method: str, message: Any, reply: Any) -> None:
    request = current_request()
    if request is None:
        return
    subject = subject_of(method, message, reply)
    about = {
        "queues": list(subject.queues[:MOST_JOBS]),
        "jobs": list(subject.jobs[:MOST_JOBS]),
        "count": subject.count,
        "worker": subject.worker,
    }
    request.about = {name: value for name, value in about.items() if value not in ("", [], None)}
