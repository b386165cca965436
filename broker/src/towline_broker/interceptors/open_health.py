"""Health for a broker that asks who calls: it answers everybody, and reads what strangers send as
little as any other call does."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from towline_broker.domain.errors import CannotVerify, Unauthenticated
from towline_broker.interceptors.authentication import Authentication, Context
from towline_broker.interceptors.intake import RequestIntake, request_of
from towline_broker.interceptors.wrapping import Behaviour

#: Calls of strangers to one method that are under way at the same time. Those that last (Watch)
#: leave room for the others: a probe that shows no credentials takes no answer for a broker that is
#: down.
MOST_STRANGERS = 100


class OpenHealth(RequestIntake):
    """Strangers are told how the broker is as a whole, whichever service they ask for: all of its
    services are as it is."""

    prefix = "/grpc.health."

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication
        #: By method.
        self._strangers: Counter[str] = Counter()

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def answer(_: Any, context: Context) -> Any:
            if await self._knows(context):
                return await behaviour(await request_of(context), context)
            if self._strangers[method] >= MOST_STRANGERS:
                full = f"{MOST_STRANGERS} calls without credentials are under way: try again"
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, full)
            with self._one_more(method):
                return await behaviour(health_pb2.HealthCheckRequest(), context)

        return answer

    async def _knows(self, context: Context) -> bool:
        try:
            await self._authentication.find_out(context)
        except (Unauthenticated, CannotVerify):
            return False
        return True

    @contextmanager
    def _one_more(self, method: str) -> Iterator[None]:
        self._strangers[method] += 1
        try:
            yield
        finally:
            self._strangers[method] -= 1
