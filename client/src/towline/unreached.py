"""Whether a call that had no answer in time had a broker to go to at all.

gRPC repeats what does not get through, for about five seconds. A call with less time than that ends
with its deadline also where nobody listens, and would sound as if the broker were slow.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import grpc
from grpc import ChannelConnectivity

from towline.errors import BrokerUnavailable, CallFailed, DeadlineExceeded

if TYPE_CHECKING:
    import grpc.aio

    from towline.channel import Connection

# Nothing repeats this call: where there is no connection it fails at once, and says why.
_PROBE = "/grpc.health.v1.Health/Check"

_PATIENCE = 1.0
"""Seconds for finding out, which takes milliseconds."""


def explained(error: DeadlineExceeded, channel: grpc.Channel, connection: Connection) -> CallFailed:
    """Return what to tell the caller: BrokerUnavailable if there is no connection to a broker."""
    state = _state_of(channel)
    if state is ChannelConnectivity.TRANSIENT_FAILURE:
        probe: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_PROBE)
        try:
            probe(b"", timeout=_PATIENCE)
        except grpc.RpcError as failure:
            return _found(failure, error, connection)
    return _still_connecting(connection) if state is ChannelConnectivity.CONNECTING else error


async def explained_aio(
    error: DeadlineExceeded, channel: grpc.aio.Channel, connection: Connection
) -> CallFailed:
    """As ``explained``."""
    state = channel.get_state()
    if state is ChannelConnectivity.TRANSIENT_FAILURE:
        probe: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_PROBE)
        try:
            await probe(b"", timeout=_PATIENCE)
        except grpc.RpcError as failure:
            return _found(failure, error, connection)
    return _still_connecting(connection) if state is ChannelConnectivity.CONNECTING else error


def _state_of(channel: grpc.Channel) -> ChannelConnectivity | None:
    heard: SimpleQueue[ChannelConnectivity] = SimpleQueue()
    channel.subscribe(heard.put)
    try:
        return heard.get(timeout=_PATIENCE)
    except Empty:
        return None
    finally:
        channel.unsubscribe(heard.put)


def _found(failure: grpc.RpcError, error: CallFailed, connection: Connection) -> CallFailed:
    found = connection.error_of(failure)
    return found if isinstance(found, BrokerUnavailable) else error


def _still_connecting(connection: Connection) -> CallFailed:
    return BrokerUnavailable(
        f"no broker can be reached at {connection.target}: no connection came about in time"
    )
