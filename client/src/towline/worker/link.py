"""Calls to the broker: each with a deadline, each failure as one of the SDK's exceptions.

While the broker cannot be reached, every thread of a worker goes on trying. One outage is logged
once, when it begins and when it is over, whichever thread meets it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import grpc

from towline.channel import Connection
from towline.errors import (
    BrokerUnavailable,
    CallFailed,
    ClientClosed,
    DeadlineExceeded,
    HandshakeFailed,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    TowlineError,
    Unauthenticated,
)
from towline.v1 import queue_service_pb2, queue_service_pb2_grpc

logger = logging.getLogger("towline.worker")

Response = TypeVar("Response")

NOT_ALLOWED = "PERMISSION_DENIED"
"""The reason of an item's error: this worker's credentials are not those that hold the lease."""

SETTLE_TIMEOUT = 10.0
"""Seconds until an Ack or Nack without an answer is tried again."""


class Interrupted(Exception):
    """A call was given up because this worker wants something else now."""


def is_final(error: TowlineError) -> bool:
    """Whether trying again cannot help: the call, the credentials or the server is wrong."""
    if isinstance(error, CallFailed):
        wrong = (InvalidArgument, NotFound, PermissionDenied, Unauthenticated)
        return isinstance(error, wrong) or error.code == "UNIMPLEMENTED"
    return True


def _is_outage(error: TowlineError) -> bool:
    # A server that goes away in the middle of a call may cancel it.
    return isinstance(error, (BrokerUnavailable, DeadlineExceeded)) or (
        isinstance(error, CallFailed) and error.code == "CANCELLED"
    )


class Backoff:
    """Growing pauses between tries, in seconds, each with a random share so that workers spread."""

    INITIAL = 0.1
    MAXIMUM = 5.0
    LONGEST_ASKED_FOR = 30.0

    def __init__(self) -> None:
        self.tries = 0

    def reset(self) -> None:
        self.tries = 0

    def pause(self, error: TowlineError) -> float:
        """The pause after one more failure; no shorter than the broker asked for."""
        ceiling = min(self.MAXIMUM, self.INITIAL * 2.0 ** min(self.tries, 16))
        self.tries += 1
        delay = ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        if isinstance(error, (BrokerUnavailable, ResourceExhausted)) and error.retry_after:
            delay = max(delay, min(error.retry_after, self.LONGEST_ASKED_FOR))
        return delay


class Outage:
    """Whether the broker can be reached. Safe from any thread."""

    def __init__(self, target: str, on_error: Callable[[BaseException], None]) -> None:
        self._target = target
        self._on_error = on_error
        self._lock = threading.Lock()
        self._since: float | None = None
        self._ended = 0.0

    @property
    def lasts(self) -> bool:
        return self._since is not None

    def met(self, error: TowlineError, begun: float) -> None:
        """``begun``: when the call was, by the monotonic clock. One that was under way in an outage
        may fail when that is over."""
        with self._lock:
            if self._since is not None or begun < self._ended:
                return
            self._since = time.monotonic()
        # What does not fit stays so until somebody sets it right: the log says what it is.
        why = f" ({error})" if isinstance(error, HandshakeFailed) else ""
        logger.warning(
            "cannot reach the broker at %s, trying until it answers%s", self._target, why
        )
        self._on_error(error)

    def over(self, begun: float) -> None:
        """A call that was begun then was answered: before the outage, if it says nothing of it."""
        with self._lock:
            if self._since is None or begun < self._since:
                return
            self._ended = time.monotonic()
            lasted = self._ended - self._since
            self._since = None
        logger.info("the broker at %s answers again after %.1f s", self._target, lasted)


class Link:
    """The broker as a worker sees it. Every method is safe from any thread.

    Each raises what ``Connection.error_of`` makes of the failure of its call.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        connection: Connection,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._stub = queue_service_pb2_grpc.QueueServiceStub(channel)
        self._connection = connection
        self._on_error = on_error
        self._outage = Outage(connection.target, on_error)
        self._answered = False
        #: Of each thread, when its last call was begun.
        self._calls = threading.local()

    def trouble(self) -> str | None:
        """Why the broker cannot be worked with at this moment; None: it answers."""
        if self._outage.lasts:
            return "the broker cannot be reached"
        return None if self._answered else "the broker has not answered yet"

    def failed(self, what: str, error: TowlineError, backoff: Backoff) -> None:
        """Tell of a call that will be tried again: once for each run of failures."""
        if _is_outage(error):
            self._outage.met(error, getattr(self._calls, "begun", time.monotonic()))
        elif backoff.tries == 0:
            code = error.code if isinstance(error, CallFailed) else type(error).__name__
            logger.warning("%s failed with %s, trying again", what, code)
            self._on_error(error)

    def start_reserve(
        self, request: queue_service_pb2.ReserveRequest, timeout: float
    ) -> PendingReserve:
        """Send a Reserve without waiting for its answer; raises ClientClosed."""
        try:
            future = self._stub.Reserve.future(request, timeout=timeout)
        except ValueError:  # grpc's way to say that the channel is closed
            raise ClientClosed from None
        return PendingReserve(future, self._answer)

    def ack(self, request: queue_service_pb2.AckRequest) -> queue_service_pb2.AckResponse:
        return self._answer(lambda: self._stub.Ack(request, timeout=SETTLE_TIMEOUT))

    def nack(self, request: queue_service_pb2.NackRequest) -> queue_service_pb2.NackResponse:
        return self._answer(lambda: self._stub.Nack(request, timeout=SETTLE_TIMEOUT))

    def heartbeat(
        self, request: queue_service_pb2.HeartbeatRequest, timeout: float
    ) -> queue_service_pb2.HeartbeatResponse:
        return self._answer(lambda: self._stub.Heartbeat(request, timeout=timeout))

    def _answer(self, call: Callable[[], Response], begun: float | None = None) -> Response:
        self._calls.begun = begun = time.monotonic() if begun is None else begun
        try:
            response = call()
        except grpc.RpcError as error:
            raise self._connection.error_of(error) from None
        except ValueError:
            raise ClientClosed from None
        self._answered = True
        self._outage.over(begun)
        return response


class PendingReserve:
    """A Reserve that may be parked at the broker."""

    def __init__(
        self,
        future: grpc.Future[queue_service_pb2.ReserveResponse],
        answer: Callable[
            [Callable[[], queue_service_pb2.ReserveResponse], float],
            queue_service_pb2.ReserveResponse,
        ],
    ) -> None:
        self._future = future
        self._answer = answer
        self._begun = time.monotonic()

    def cancel(self) -> None:
        """Give it up, unless the answer is there already. Safe from any thread."""
        self._future.cancel()

    def wait(self) -> queue_service_pb2.ReserveResponse:
        """Raises Interrupted after ``cancel``, and what any call of Link raises."""
        try:
            return self._answer(self._future.result, self._begun)
        except grpc.FutureCancelledError:
            raise Interrupted from None
