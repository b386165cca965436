"""Calling a broker with nothing but the generated stubs, and reading its errors."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from towline.v1.admin_service_pb2_grpc import AdminServiceStub
from towline.v1.dead_letter_service_pb2_grpc import DeadLetterServiceStub
from towline.v1.errors_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo, Status
from towline.v1.queue_service_pb2_grpc import QueueServiceStub


class Calls:
    """The stubs of the three services over one channel."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self.channel = channel
        self.address = address
        self.queue: Any = QueueServiceStub(channel)
        self.dead: Any = DeadLetterServiceStub(channel)
        self.admin: Any = AdminServiceStub(channel)


@asynccontextmanager
async def calls_to(address: str) -> AsyncIterator[Calls]:
    # A subchannel pool of its own: brokers of other tests come and go on the same ports.
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_retries", 0),
    ]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Calls(channel, address)


async def answered(call: Callable[[], Any]) -> Any:
    """What a call with little time is answered in that time: at one of a few tries, since the
    machine may stand still for longer than that.
    """
    for _ in range(4):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
    return await call()


class WireFailure:
    """A failed call, read as any client can read it."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.message = error.details() or ""
        self.metadata: dict[str, Any] = dict(error.trailing_metadata())
        status = Status.FromString(self.metadata.get("grpc-status-details-bin", b""))
        assert status.code == self.code.value[0]
        assert status.message == self.message
        self.details = {detail.type_url: detail.value for detail in status.details}
        self.info: ErrorInfo = self._detail(ErrorInfo)

    @property
    def reason(self) -> str:
        assert self.info.domain == "towline"
        return self.info.reason

    @property
    def violations(self) -> dict[str, str]:
        request: BadRequest = self._detail(BadRequest)
        return {entry.field: entry.description for entry in request.field_violations}

    @property
    def subjects(self) -> list[str]:
        quota: QuotaFailure = self._detail(QuotaFailure)
        return [violation.subject for violation in quota.violations]

    @property
    def retry_after(self) -> float:
        retry: RetryInfo = self._detail(RetryInfo)
        return retry.retry_delay.ToTimedelta().total_seconds()

    def _detail(self, kind: Any) -> Any:
        url = f"type.googleapis.com/google.rpc.{kind.DESCRIPTOR.name}"
        assert url in self.details, f"no {url} among {list(self.details)}"
        return kind.FromString(self.details[url])


async def failure_of(call: Any) -> WireFailure:
    """How this call fails."""
    try:
        reply = await call
    except grpc.aio.AioRpcError as error:
        return WireFailure(error)
    raise AssertionError(f"the call succeeded: {reply}")


def seconds(value: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(value * 1_000_000_000))
    return duration
