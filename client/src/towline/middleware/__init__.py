"""Middleware: code around every dispatch of a client and every handler of a worker.

    Worker(address, ["emails"], middleware=[Logging(), RateLimit(100, per=60)])

The first is the outermost. ``towline.middleware.interface`` tells how one is written.
"""

from towline.middleware.interface import (
    Around,
    AttemptEnd,
    AttemptOutcome,
    ClientMiddleware,
    MiddlewareError,
    WorkerMiddleware,
)
from towline.middleware.outgoing import OutgoingJob

__all__ = [
    "Around",
    "AttemptEnd",
    "AttemptOutcome",
    "ClientMiddleware",
    "MiddlewareError",
    "OutgoingJob",
    "WorkerMiddleware",
]
