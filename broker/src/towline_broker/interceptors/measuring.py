"""How many calls there are, how they end, and how long they take.

Costs some microseconds a call and nothing for a job; a broker whose figures nobody can fetch goes
without it.
"""

import asyncio
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import grpc

from towline_broker.domain.errors import TowlineError
from towline_broker.interceptors.wrapping import Behaviour, WrappingInterceptor
from towline_broker.status import WireError, wire_error
from towline_broker.streaming import STREAMS, stream_scope

#: Seconds. Up to the longest that a call can be parked by default.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: Counted from 0 on, so that the first one is seen to be one more than before: refused for want of
#: room, of a store, or of rights, or failed by a defect.
REASONS = (
    *("BROKER_BUSY", "QUEUE_FULL", "MEMORY_FULL", "DISK_FULL", "TOO_MANY_WAITERS"),
    "TOO_MANY_QUEUES",
    *("STORE_UNAVAILABLE", "DRAINING", "UNAUTHENTICATED", "PERMISSION_DENIED", "INTERNAL"),
)


class MethodFigures:
    """Of one method, since this process started."""

    __slots__ = ("_buckets", "answers", "codes", "running", "seconds")

    def __init__(self) -> None:
        self.running = 0
        #: By the name of the gRPC code.
        self.codes: Counter[str] = Counter()
        #: Of a stream's pushes and messages, by the name of the gRPC code.
        self.answers: Counter[str] = Counter()
        self.seconds = 0.0
        self._buckets = [0] * (len(BOUNDS) + 1)

    def add(self, code: str, seconds: float) -> None:
        self.codes[code] += 1
        self.seconds += seconds
        self._buckets[bisect_left(BOUNDS, seconds)] += 1

    def up_to_bounds(self) -> list[int]:
        """How many took at most so long as each of :data:`BOUNDS`."""
        return list(accumulate(self._buckets[:-1]))


class MeasuredCalls(WrappingInterceptor):
    """Stands just inside of the errors, where what is refused still has its reason.

    ``timer`` gives seconds.
    """

    def __init__(self, timer: Callable[[], float] = time.perf_counter) -> None:
        self.timer = timer
        #: By service and method, as in "QueueService/Push".
        self.methods: dict[str, MethodFigures] = {}
        #: Calls, and messages of streams, that failed, by the reason of their ErrorInfo.
        self.reasons: Counter[str] = Counter(dict.fromkeys(REASONS, 0))

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        figures = self.methods.setdefault(short_name(method), MethodFigures())
        timer, reasons, streams = self.timer, self.reasons, method in STREAMS

        async def measure(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            began, code = timer(), "OK"
            figures.running += 1
            if streams:
                self._measure_messages(figures)
            try:
                return await behaviour(request, context)
            except TowlineError as error:
                wire = wire_error(error)
                code = wire.code.name
                reasons[wire.reason] += 1
                raise
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except grpc.aio.BaseError:  # the call is over, or was ended by its handler
                code = "UNKNOWN"
                raise
            except Exception:
                code = "INTERNAL"
                reasons["INTERNAL"] += 1
                raise
            finally:
                figures.running -= 1
                figures.add(code, timer() - began)

        return measure

    def _measure_messages(self, figures: MethodFigures) -> None:
        """Those of the stream that has begun."""
        scope, reasons = stream_scope(), self.reasons
        scope.answers, describe = figures.answers, scope.describe

        def count(error: Exception) -> WireError:
            wire = describe(error)
            reasons[wire.reason] += 1
            return wire

        scope.describe = count


def short_name(method: str) -> str:
    """``/towline.v1.QueueService/Push`` without its package."""
    return method.rpartition(".")[2]
