"""Ack: from the bytes of its request to those of its reply."""

from collections.abc import Sequence

from towline.v1.queue_service_pb2 import Ack, AckRequest, AckResponse
from towline_broker.core import tokens
from towline_broker.core.broker import Broker
from towline_broker.core.calls import AckCall
from towline_broker.domain.encoded import Encoded
from towline_broker.domain.identity import current_identity
from towline_broker.services.batches import sift
from towline_broker.services.checks import Checks
from towline_broker.services.item_rights import holds_all
from towline_broker.services.limits import Limits
from towline_broker.services.settling import SettleReader, settle_results
from towline_broker.services.wire import replies
from towline_broker.services.wire.batches import acks
from towline_broker.services.wire.fields import size_at, tag

_TOKEN, _RESULT = tag(Ack.DESCRIPTOR, "lease_token")[0], tag(Ack.DESCRIPTOR, "result")[0]
#: Sizes from here on are written in more than one byte.
_LONG = 0x80


class Acked(Encoded[AckRequest]):
    """An Ack. ``calls``: what it asks for; None if it has to be read from the message."""

    __slots__ = ("calls",)

    def __init__(self, raw: bytes, calls: Sequence[AckCall] | None) -> None:
        super().__init__(raw, AckRequest.FromString)
        self.calls = calls


class Acks:
    """``read`` and then ``answer``; in between is where it is looked at whether the caller may."""

    def __init__(self, broker: Broker, limits: Limits) -> None:
        self._broker = broker
        self._limits = limits
        self._reader = SettleReader(limits)

    def read(self, raw: bytes) -> Acked:
        """Raises DecodeError for what is no request."""
        calls = calls_of(acks(raw), self._limits)
        acked = Acked(raw, calls)
        if calls is None:
            _ = acked.message  # which finds out whether they are Acks at all
        return acked

    async def answer(self, acked: Acked) -> Encoded[AckResponse]:
        """Raises InvalidRequest, and what the core raises."""
        calls, identity = acked.calls, current_identity()
        if calls is None or (
            identity.mark and not holds_all(identity, [call.ref for call in calls])
        ):
            return await self._answer_one_by_one(acked.message)
        outcomes = await self._broker.settling.ack(calls)
        return Encoded(replies.settled(outcomes), AckResponse.FromString)

    async def _answer_one_by_one(self, request: AckRequest) -> Encoded[AckResponse]:
        checks = Checks()
        checks.count(request.acks, "acks", self._limits.batch)
        checks.finish()
        calls, refused = sift(request.acks, "acks", self._reader.ack)
        outcomes = await self._broker.settling.ack(calls) if calls else []
        reply = AckResponse(results=settle_results(outcomes, refused))
        return Encoded(reply.SerializeToString(), AckResponse.FromString)


def calls_of(entries: Sequence[bytes], limits: Limits) -> Sequence[AckCall] | None:
    """What Acks ask for, of which each is given as its bytes. None: there are none or too many, one
    of them is not written as protobuf writes an Ack, or something is wrong with it."""
    if len(entries) == 1:
        return _read_one(entries[0], limits.result_bytes)
    return _read(entries, limits.result_bytes) if 1 < len(entries) <= limits.batch else None


def _read(entries: Sequence[bytes], most_result: int) -> Sequence[AckCall] | None:
    size = len(entries[0])
    before = bytes((_TOKEN, size - 2)) if 2 < size < _LONG else b""
    if before and [len(each) == size and each.startswith(before) for each in entries].count(
        True
    ) == len(entries):
        refs = tokens.decode_all([each[2:] for each in entries])
        return None if refs is None else list(map(AckCall, refs))
    try:
        pairs = [_split(entry) for entry in entries]
    except (IndexError, ValueError):
        return None
    refs = tokens.decode_all([token for token, _ in pairs])
    if refs is None or any(len(result) > most_result for _, result in pairs):
        return None
    return [AckCall(ref, result) for ref, (_, result) in zip(refs, pairs, strict=True)]


def _read_one(entry: bytes, most_result: int) -> Sequence[AckCall] | None:
    """The same for the only one."""
    try:
        token, result = _split(entry)
    except (IndexError, ValueError):
        return None
    ref = tokens.decode(token.decode("latin-1"))
    return None if ref is None or len(result) > most_result else [AckCall(ref, result)]


def _split(entry: bytes) -> tuple[bytes, bytes]:
    """Its token and its result. Raises IndexError or ValueError for what has to be read."""
    end = 2 + entry[1]
    if entry[0] != _TOKEN or end >= _LONG:
        raise ValueError("no token, or a long one")
    if end == len(entry):
        return entry[2:], b""
    if entry[end] != _RESULT:
        raise ValueError("something else than a result")
    size, start = size_at(entry, end + 1)
    if start + size != len(entry):
        raise ValueError("more than a result, or less")
    return entry[2:end], entry[start:]
