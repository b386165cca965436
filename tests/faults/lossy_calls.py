"""Calls whose first reply never arrives, and which are repeated until one does."""

import time
from collections.abc import Sequence
from random import Random
from typing import Any, Self

import grpc

from tests.support.proxy import LoseReplies, Proxy

#: Nothing is repeated but by what stands here, and a lost connection is made anew at once.
OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 20),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
)
CALL_SECONDS = 60.0
#: By so much chance the connection is cut while the broker is still at work, and else when it has
#: said this much of each reply (which are longer), and no more for so many seconds.
EARLY = 0.1
REPLY_BYTES, QUIET = 50, 0.02
_CUT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
#: More came at once than the store takes; a call that is made again soon after is taken.
_REFUSED = grpc.StatusCode.RESOURCE_EXHAUSTED
_PAUSE = 0.05


class LossyCalls:
    """By way of a proxy, over one channel that is open while the context lasts."""

    def __init__(self, proxy: Proxy, chance: Random) -> None:
        self._proxy = proxy
        self._chance = chance
        #: First calls whose connection was cut; calls that were made in all.
        self.lost = self.made = 0

    def __enter__(self) -> Self:
        self.channel = grpc.insecure_channel(self._proxy.address, options=OPTIONS)
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def repeated(self, method: Any, requests: Sequence[Any]) -> list[Any]:
        """The answers to calls that are all made at once, whose replies are all lost, and which
        then are all made again."""
        grpc.channel_ready_future(self.channel).result(CALL_SECONDS)
        early = self._chance.random() < EARLY
        self._proxy.fail(LoseReplies(0 if early else REPLY_BYTES * len(requests), QUIET))
        first = [method.future(request, timeout=CALL_SECONDS) for request in requests]
        for each in first:
            error = each.exception()
            assert isinstance(error, grpc.RpcError), "a reply arrived that was to be lost"
            assert error.code() in _CUT, error
        self._proxy.heal()
        self.lost += len(first)
        self.made += len(first)
        return [self._answer(method, request) for request in self._again(method, requests)]

    def _again(self, method: Any, requests: Sequence[Any]) -> list[tuple[Any, Any]]:
        self.made += len(requests)
        return [
            (request, method.future(request, timeout=CALL_SECONDS, wait_for_ready=True))
            for request in requests
        ]

    def _answer(self, method: Any, made: tuple[Any, Any]) -> Any:
        request, future = made
        while True:
            error = future.exception()
            if error is None:
                return future.result()
            assert error.code() in (*_CUT, _REFUSED), error
            time.sleep(_PAUSE)
            [(_, future)] = self._again(method, [request])
