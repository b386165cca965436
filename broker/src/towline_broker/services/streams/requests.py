"""Requests of PushStream as they come in, each push left as the bytes of a PushRequest."""

from collections.abc import Sequence
from typing import Any

from towline.v1.queue_service_pb2 import PushStreamRequest
from towline_broker.partial import partial_class

_Request = partial_class(PushStreamRequest.DESCRIPTOR, {"pushes": {"sequence": {}, "request": {}}})


def pushes_of(raw: bytes) -> Sequence[Any]:
    """Each with ``sequence`` and ``request``. Raises DecodeError for what is no message of the
    stream. Whether a request is any is found out later."""
    pushes: Sequence[Any] = _Request.FromString(raw).pushes
    return pushes
