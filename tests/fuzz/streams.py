"""Streams of a broker without a transport: messages in, and what would be written back out."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.answers import EXPECTED, Wrong
from tests.fuzz.callers import Metadata
from towline.v1 import queue_service_pb2
from towline.v1.queue_service_pb2 import PushStreamResponse, WorkRequest, WorkResponse
from towline_broker.services.streams.requests import pushes_of
from towline_broker.streaming import PUSH_STREAM, WORK

#: By the full name of the method.
STREAMED: dict[str, type[Message]] = {
    f"/{service.full_name}/{method.name}": GetMessageClass(method.input_type)
    for service in queue_service_pb2.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.client_streaming
}
_RESPONSES: dict[str, Any] = {PUSH_STREAM: PushStreamResponse, WORK: WorkResponse}
#: What a message that failed may say.
_CODES = {code.value[0] for code in EXPECTED}
#: Seconds in which a stream that its caller has ended is over.
PATIENCE = 20.0


@dataclass
class StreamAnswer:
    code: grpc.StatusCode
    #: What was written, put together.
    reply: Any = None
    #: Of the messages and pushes that have one, by how often they were answered.
    answered: Counter[int] = field(default_factory=Counter)


class StreamContext:
    """What a handler sees of its stream: these messages, and then its end."""

    def __init__(self, raws: Sequence[bytes], metadata: Metadata) -> None:
        self._raws = list(raws)
        self._metadata = metadata
        self.status: tuple[grpc.StatusCode, str, Sequence[tuple[str, Any]]] | None = None
        self.written: list[bytes] = []

    def time_remaining(self) -> None:
        """It has no deadline."""

    def peer(self) -> str:
        return "fuzz"

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def peer_identities(self) -> None:
        """No certificate."""

    async def send_initial_metadata(self, metadata: object) -> None:
        pass

    async def read(self) -> Any:
        await asyncio.sleep(0)
        return self._raws.pop(0) if self._raws else grpc.aio.EOF

    async def write(self, reply: bytes) -> None:
        self.written.append(reply)

    async def abort(
        self, code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, Any]]
    ) -> None:
        self.status = (code, details, metadata)
        raise grpc.aio.AbortError


def check_stream(
    method: str, raws: Sequence[bytes], written: Sequence[bytes], code: grpc.StatusCode
) -> StreamAnswer:
    """Raises Wrong unless each message that was read has one answer; of a stream that was ended by
    the broker, one at most."""
    try:
        reply = _RESPONSES[method].FromString(b"".join(written))
    except DecodeError:
        raise Wrong("what was written is no response") from None
    sent = _pushes_sent(raws) if method == PUSH_STREAM else _messages_sent(raws)
    answered = Counter(result.sequence for result in reply.results)
    if code is grpc.StatusCode.OK and answered != sent:
        raise Wrong(f"sent were {dict(sent)}, and answered {dict(answered)}")
    if answered - sent:
        raise Wrong(f"answered is more than was sent: {dict(answered - sent)}")
    for result in reply.results:
        if result.HasField("error") and result.error.code not in _CODES:
            raise Wrong(f"a message failed with {result.error.code}: {result.error.message}")
        if method == PUSH_STREAM and result.WhichOneof("outcome") is None:
            raise Wrong(f"the push {result.sequence} has no outcome")
    if method == WORK:
        credits = sum(max(0, message.credits) for message in _readable(raws))
        if len(reply.leases) > credits:
            raise Wrong(f"{len(reply.leases)} leases for {credits} credits")
    return StreamAnswer(code, reply, answered)


def _pushes_sent(raws: Sequence[bytes]) -> Counter[int]:
    """Up to the message that ends the stream."""
    sent: Counter[int] = Counter()
    for raw in raws:
        try:
            sent.update(push.sequence for push in pushes_of(raw))
        except DecodeError:
            break
    return sent


def _messages_sent(raws: Sequence[bytes]) -> Counter[int]:
    return Counter(message.sequence for message in _readable(raws) if message.sequence)


def _readable(raws: Sequence[bytes]) -> list[WorkRequest]:
    found = []
    for raw in raws:
        try:
            found.append(WorkRequest.FromString(raw))
        except DecodeError:
            break
    return found
