"""Towline: dispatch jobs to a broker, and run them.

    from towline import Client, Job, job

    class SendEmail(Job):
        queue = "emails"
        to: str

        def handle(self) -> None: ...

    with Client("127.0.0.1:7480") as client:
        client.dispatch(SendEmail(to="a@b.c"), delay=300)

Importing this package loads neither gRPC nor the messages: a module that only defines jobs is
cheap to import, and can be imported before a server forks. Clients and workers load them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline.context import CancelReason, JobContext, NoCurrentJob, current_job
from towline.control import JobControl, Reject, Release, Retry
from towline.errors import (
    BatchFailed,
    BrokerError,
    BrokerUnavailable,
    CallFailed,
    ClientClosed,
    ConfigurationError,
    DeadlineExceeded,
    HandshakeFailed,
    InvalidArgument,
    InvalidJob,
    InvalidPayload,
    JobCancelled,
    JobFailed,
    LeaseLost,
    NotFound,
    NotSupported,
    PermissionDenied,
    QueueFull,
    ResourceExhausted,
    ResultTimeout,
    TowlineError,
    Unauthenticated,
    Violation,
)
from towline.jobs import Job, JobFunction, job
from towline.lazy import loading_when_used
from towline.options import Backoff, DispatchOptions, Exponential, JobOptions, PolicyOptions
from towline.registry import JobDefinition, Registry
from towline.serializers import JsonSerializer, MsgpackSerializer, Serializer

if TYPE_CHECKING:
    from towline.aio import AsyncClient
    from towline.bearer import BearerToken
    from towline.client import Client
    from towline.credentials import TlsCredentials
    from towline.figures import Figures, Stats
    from towline.handles import AsyncJobHandle, JobHandle
    from towline.named import clients
    from towline.requests import CancelOutcome, JobRequest, PreparedJob
    from towline.status import DeadReason, JobState, JobStatus
    from towline.worker import Worker

__all__ = [
    "AsyncClient",
    "AsyncJobHandle",
    "Backoff",
    "BatchFailed",
    "BearerToken",
    "BrokerError",
    "BrokerUnavailable",
    "CallFailed",
    "CancelOutcome",
    "CancelReason",
    "Client",
    "ClientClosed",
    "ConfigurationError",
    "DeadReason",
    "DeadlineExceeded",
    "DispatchOptions",
    "Exponential",
    "Figures",
    "HandshakeFailed",
    "InvalidArgument",
    "InvalidJob",
    "InvalidPayload",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobControl",
    "JobDefinition",
    "JobFailed",
    "JobFunction",
    "JobHandle",
    "JobOptions",
    "JobRequest",
    "JobState",
    "JobStatus",
    "JsonSerializer",
    "LeaseLost",
    "MsgpackSerializer",
    "NoCurrentJob",
    "NotFound",
    "NotSupported",
    "PermissionDenied",
    "PolicyOptions",
    "PreparedJob",
    "QueueFull",
    "Registry",
    "Reject",
    "Release",
    "ResourceExhausted",
    "ResultTimeout",
    "Retry",
    "Serializer",
    "Stats",
    "TlsCredentials",
    "TowlineError",
    "Unauthenticated",
    "Violation",
    "Worker",
    "clients",
    "current_job",
    "job",
]

_LOADED_WHEN_USED = {
    "AsyncClient": "towline.aio",
    "AsyncJobHandle": "towline.handles",
    "BearerToken": "towline.bearer",
    "Client": "towline.client",
    "Figures": "towline.figures",
    "JobHandle": "towline.handles",
    "TlsCredentials": "towline.credentials",
    "CancelOutcome": "towline.requests",
    "JobRequest": "towline.requests",
    "PreparedJob": "towline.requests",
    "DeadReason": "towline.status",
    "JobState": "towline.status",
    "JobStatus": "towline.status",
    "Stats": "towline.figures",
    "Worker": "towline.worker",
    "clients": "towline.named",
}


__getattr__ = loading_when_used(__name__, _LOADED_WHEN_USED)


def __dir__() -> list[str]:
    return sorted(__all__)
