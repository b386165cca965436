"""Small parsers that meet bytes from outside: tokens at the broker, and answers at the SDK."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import grpc
import msgpack  # type: ignore[import-untyped]
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message

from tests.fuzz.mutation import LONG_INTEGERS, ByteMutator, MessageMutator
from tests.fuzz.seeds import TOKENS, jobs
from tests.fuzz.targets import Found, Stopwatch, Target
from tests.support.calls import seconds
from towline.errors import InvalidPayload, TowlineError, from_item_error, from_rpc_error
from towline.serialization import codec_for
from towline.serializers import JsonSerializer, MsgpackSerializer, read
from towline.status import read_info
from towline.v1.errors_pb2 import BadRequest, ErrorInfo, ItemError, QuotaFailure, RetryInfo, Status
from towline.v1.job_pb2 import Failure, JobInfo, Progress
from towline_broker.core import tokens
from towline_broker.domain.errors import InvalidField
from towline_broker.drivers.interface import DeadQuery, JobQuery
from towline_broker.drivers.memory.engine import Engine
from towline_broker.services.paging import to_cursor, to_token


class ParserTarget(Target):
    """``read``: says in a word what the parser made of the bytes; raises for what it should not
    do. ``kind``: of message, if the bytes are one."""

    size = 50_000

    def __init__(
        self,
        name: str,
        seeds: Sequence[bytes],
        read: Callable[[bytes], str],
        kind: type[Message] | None = None,
    ) -> None:
        self.name = name
        self.seeds = seeds
        self.read = read
        self._kind = kind

    def epoch(self, rng: Random, count: int) -> Counter[str]:
        answers: Counter[str] = Counter()
        mutator, fields = ByteMutator(rng), MessageMutator(rng)
        for _ in range(count):
            raw = rng.choice(self.seeds)
            roll = rng.random()
            if roll < 0.1:
                raw = mutator.splice(raw, rng.choice(self.seeds))
            elif self._kind is not None and roll < 0.6:
                raw = fields.mutate(raw, self._kind)
            else:
                raw = mutator.mutate(raw)
            try:
                with Stopwatch(self.name, raw):
                    answers[self.read(raw)] += 1
            except Found:
                raise
            except Exception as error:
                raise Found(self.name, raw, error) from error
        return answers


def all_parsers() -> list[ParserTarget]:
    return [
        ParserTarget("lease tokens", [token.encode() for token in TOKENS], _lease_token),
        ParserTarget(
            "page tokens", [b"0", b"17", b"17.4", to_token("5", "").encode()], _page_token
        ),
        ParserTarget("SDK: error details", _details(), _error_details),
        ParserTarget("SDK: item errors", [_item_error()], _item_errors, ItemError),
        ParserTarget("SDK: statuses", _infos(), _job_info, JobInfo),
        ParserTarget(
            "SDK: JSON payloads", [json.dumps(_PLAIN).encode()], _payload(JsonSerializer())
        ),
        ParserTarget("SDK: MessagePack", [msgpack.packb(_PLAIN)], _payload(MsgpackSerializer())),
    ]


# --- the broker's -----------------------------------------------------------------------------


def _lease_token(raw: bytes) -> str:
    text = raw.decode(errors="replace")
    ref = tokens.decode(text)
    if ref is None:
        return "refused"
    assert tokens.encode(ref) == text
    return "read"


def _page_token(raw: bytes) -> str:
    """Both as it is, and as the cursor within a token that is signed for it."""
    text = raw.decode(errors="replace")
    with suppress(InvalidField):
        to_cursor(text, "")
    cursor = to_cursor(to_token(text, ""), "")
    assert cursor == text
    read = []
    with suppress(InvalidField):
        _EMPTY.list_jobs(JobQuery(1, cursor=cursor))
        read.append("job")
    with suppress(InvalidField):
        _EMPTY.list_dead(DeadQuery(1, cursor=cursor))
        read.append("dead job")
    return f"read: {' and '.join(read)}" if read else "refused"


_EMPTY = Engine()


# --- the SDK's --------------------------------------------------------------------------------


class FailedCall(grpc.RpcError):
    """As a call of gRPC raises it, with these details."""

    def __init__(self, details: bytes, code: grpc.StatusCode) -> None:
        self._details = details
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "no"

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", self._details),)


_CODES = list(grpc.StatusCode)


def _error_details(raw: bytes) -> str:
    error = from_rpc_error(FailedCall(raw, _CODES[len(raw) % len(_CODES)]), "somewhere")
    str(error)
    return type(error).__name__


def _item_errors(raw: bytes) -> str:
    try:
        message = ItemError.FromString(raw)
    except DecodeError:
        return "undecodable"
    return type(from_item_error(message)).__name__


def _job_info(raw: bytes) -> str:
    try:
        info = JobInfo.FromString(raw)
    except DecodeError:
        return "undecodable"
    try:
        status = read_info(info)
        str(status)
        status.outcome()
    except TowlineError as error:
        return type(error).__name__
    return "read"


@dataclass
class _Order:
    """Of many types, so that each is read."""

    name: str
    count: int
    price: float
    when: datetime
    within: timedelta
    number: UUID
    tags: list[str]
    sizes: dict[str, int]
    pair: tuple[int, str]
    inner: "_Order | None" = None
    blob: bytes = b""
    anything: Any = None
    extra: set[int] = field(default_factory=set)


_ORDER = _Order(
    *("a", 1, 0.5, datetime(2026, 1, 2, tzinfo=UTC), timedelta(seconds=1), UUID(int=7)),
    *(["x"], {"s": 1}, (1, "b")),
    inner=_Order(
        *("b", 2, 1e9, datetime(2026, 1, 2, tzinfo=UTC), timedelta(days=1), UUID(int=8)),
        *([], {}, (2, "c")),
    ),
    blob=b"bytes",
    anything={"deep": [[[[1, None, True]]]]},
)
_CODEC = codec_for(_Order, "order")
_PLAIN = _CODEC.encode(_ORDER, "order")


def _payload(serializer: Any) -> Callable[[bytes], str]:
    def take(raw: bytes) -> str:
        try:
            _CODEC.decode(read(raw, "payload", serializer), "payload")
        except InvalidPayload:
            return "refused"
        return "read"

    return take


# --- good ones --------------------------------------------------------------------------------


def _details() -> list[bytes]:
    """With delays that are one, and that are none."""
    delays = [seconds(1)] + [Duration(seconds=n, nanos=m) for n in LONG_INTEGERS for m in (0, -1)]
    return [_status(delay) for delay in delays]


def _status(delay: Duration) -> bytes:
    violation = BadRequest.FieldViolation(field="jobs[3].queue", description="is wrong")
    quota = QuotaFailure.Violation(subject="queue:q", description="is full")
    status = Status(code=3, message="no")
    for detail in (
        ErrorInfo(reason="QUEUE_FULL", domain="towline"),
        BadRequest(field_violations=[violation]),
        QuotaFailure(violations=[quota]),
        RetryInfo(retry_delay=delay),
    ):
        url = f"type.googleapis.com/google.rpc.{detail.DESCRIPTOR.name}"
        status.details.append(AnyMessage(type_url=url, value=detail.SerializeToString()))
    return status.SerializeToString()


def _item_error() -> bytes:
    error = ItemError(code=8, reason="QUEUE_FULL", message="full", field="queue")
    error.retry_after.CopyFrom(seconds(1))
    return error.SerializeToString()


def _infos() -> list[bytes]:
    failure = Failure(type="ValueError", message="no", trace="at line 1")
    failure.failed_at.FromSeconds(1_800_000_000)
    infos = []
    for state, job in enumerate(jobs()[-7:]):
        job.content_type = "application/json"
        progress = Progress(fraction=0.5, message="half", checkpoint=b"c")
        info = JobInfo(job=job, state=state, last_failure=failure, progress=progress)  # type: ignore[arg-type]  # a number
        info.result = b'{"a":[1,2]}'
        for moment in (info.enqueued_at, info.available_at, info.started_at, info.finished_at):
            moment.FromSeconds(1_800_000_000)
        infos.append(info.SerializeToString())
    return infos
