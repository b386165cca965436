"""What a client asks of its transport."""

from __future__ import annotations

from typing import Protocol

from towline.v1.admin_service_pb2 import StatsRequest, StatsResponse
from towline.v1.queue_service_pb2 import (
    CancelJobRequest,
    CancelJobResponse,
    GetJobRequest,
    GetJobResponse,
    PushRequest,
    PushResponse,
)


class Transport(Protocol):
    """The calls of a client. Safe from any thread.

    Each call does what the contract says of it and ends within ``timeout`` seconds. It raises the
    kinds of towline.errors.CallFailed, and ClientClosed after ``close``. A Push is safe to repeat:
    its jobs have their ids.
    """

    def push(self, request: PushRequest, timeout: float) -> PushResponse: ...

    def get_job(self, request: GetJobRequest, timeout: float) -> GetJobResponse: ...

    def cancel_job(self, request: CancelJobRequest, timeout: float) -> CancelJobResponse: ...

    def stats(self, request: StatsRequest, timeout: float) -> StatsResponse: ...

    def close(self) -> None:
        """End calls that are under way, with ClientClosed. Closing again does nothing."""


class AsyncTransport(Protocol):
    """Transport with await; used in whichever event loop runs."""

    async def push(self, request: PushRequest, timeout: float) -> PushResponse: ...

    async def get_job(self, request: GetJobRequest, timeout: float) -> GetJobResponse: ...

    async def cancel_job(self, request: CancelJobRequest, timeout: float) -> CancelJobResponse: ...

    async def stats(self, request: StatsRequest, timeout: float) -> StatsResponse: ...

    async def close(self) -> None: ...
