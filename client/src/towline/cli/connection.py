"""Calls to the broker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc

from towline.channel import given_address
from towline.cli import values
from towline.cli.exits import UsageError
from towline.client import Client
from towline.errors import (
    BrokerUnavailable,
    CallFailed,
    ConfigurationError,
    HandshakeFailed,
)
from towline.handshakes import why_hung_up
from towline.v1 import job_pb2, queue_service_pb2
from towline.v1.admin_service_pb2_grpc import AdminServiceStub
from towline.v1.dead_letter_service_pb2_grpc import DeadLetterServiceStub
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

Response = TypeVar("Response")


class Broker:
    """The client, and beside it the calls that only operators make."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.queues = QueueServiceStub(client.channel)
        self.dead = DeadLetterServiceStub(client.channel)
        self.admin = AdminServiceStub(client.channel)

    def call(self, method: Callable[..., Response], request: object) -> Response:
        """Return the answer. Raises the exceptions of towline.errors."""
        connection = self.client.connection
        with connection.errors():
            return method(request, timeout=connection.timeout)

    def job(self, job_id: str) -> job_pb2.JobInfo:
        """Return everything about a job. Raises NotFound."""
        return self.call(self.queues.GetJob, queue_service_pb2.GetJobRequest(id=job_id)).job


@contextmanager
def connect(url: str | None, timeout: str) -> Iterator[Broker]:
    """Make a client of the broker. Raises UsageError when --url or --timeout makes no sense."""
    limit = values.seconds(timeout, "--timeout")
    if not limit:
        raise UsageError("--timeout: must be longer than 0")
    if given_address(url).startswith(("memory://", "sync://")):
        raise UsageError(
            f"--url: what is at {given_address(url)} ends with the process that uses it, and this "
            "command has nothing to do with any other; start a broker with towline-broker serve"
        )
    try:
        client = Client(url, call_timeout=limit)
    except ConfigurationError as error:
        raise UsageError(str(error).replace("address:", "--url:", 1)) from None
    with client:
        _reach(client, limit)
        yield Broker(client)


def _reach(client: Client, limit: float) -> None:
    """Connect to the broker. Raises BrokerUnavailable at once when that cannot be done.

    Calls would try for some seconds before they give up, which suits a service; a person at a
    terminal wants to hear of it now.
    """
    settled = threading.Event()
    seen: list[grpc.ChannelConnectivity] = []

    def changed(state: grpc.ChannelConnectivity) -> None:
        if state in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
            seen.append(state)
            settled.set()

    client.channel.subscribe(changed, try_to_connect=True)
    settled.wait(limit)
    client.channel.unsubscribe(changed)
    if not seen or seen[0] is not grpc.ChannelConnectivity.READY:
        raise _why_not(client, limit)


def _why_not(client: Client, limit: float) -> CallFailed:
    """A call that nothing repeats is told at once why there is no connection."""
    connection = client.connection
    hint = (
        "is it running there? (start one with towline-broker serve, name another place with --url)"
    )
    check: Callable[..., object] = client.channel.unary_unary("/grpc.health.v1.Health/Check")
    try:
        check(b"", timeout=min(limit, 1.0))
    except grpc.RpcError as error:
        found = connection.error_of(error)
        if isinstance(found, HandshakeFailed):
            return found
        hint = why_hung_up(str(found), connection) or hint
    return BrokerUnavailable(f"no broker can be reached at {connection.target}; {hint}")
