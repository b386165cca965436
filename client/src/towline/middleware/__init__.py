"""Middleware: code around every dispatch of a client and every handler of a worker.

    Worker(address, ["emails"], middleware=[Logging(), RateLimit(100, per=60)])

The first is the outermost. ``towline.middleware.interface`` tells how one is written.
"""

from towline.middleware.error_hook import ErrorHook
from towline.middleware.interface import (
    Around,
    AttemptEnd,
    AttemptOutcome,
    ClientMiddleware,
    MiddlewareError,
    WorkerMiddleware,
)
from towline.middleware.log import Logging
from towline.middleware.metrics import Metrics
from towline.middleware.outgoing import OutgoingJob
from towline.middleware.rate_limit import RateLimit
from towline.middleware.tracing import Tracing
from towline.middleware.unique_while_running import UniqueWhileRunning

__all__ = [
    "Around",
    "AttemptEnd",
    "AttemptOutcome",
    "ClientMiddleware",
    "ErrorHook",
    "Logging",
    "Metrics",
    "MiddlewareError",
    "OutgoingJob",
    "RateLimit",
    "Tracing",
    "UniqueWhileRunning",
    "WorkerMiddleware",
]
