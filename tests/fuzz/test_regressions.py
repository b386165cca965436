"""What fuzzing has found, each in its smallest form."""

import gc
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.drivers.file_support import opened
from tests.fuzz.fuzzed_broker import FuzzedBroker
from tests.fuzz.journal import segment
from tests.fuzz.parsers import FailedCall
from towline.errors import BrokerError, ResourceExhausted, from_item_error, from_rpc_error
from towline.status import read_time
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import queue_service_pb2 as queue
from towline.v1.errors_pb2 import ErrorInfo, ItemError, RetryInfo, Status
from towline.v1.job_pb2 import Job
from towline_broker.domain.errors import InvalidField
from towline_broker.drivers.file import segments
from towline_broker.drivers.file.reading import Damaged
from towline_broker.drivers.memory.driver import MemoryDriver
from towline_broker.drivers.memory.engine import Engine
from towline_broker.interceptors import parts
from towline_broker.interceptors.parts import check_parts

EMPTY = b"\x0a\x00"


def one_job(kind_of_field: int, inner: bytes) -> bytes:
    """A Push of one job with one field of bytes."""
    return _field(1, _field(kind_of_field, inner))


def _field(number: int, value: bytes) -> bytes:
    length, size = bytearray(), len(value)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + value


#: A few hundred KB of each would be tens of MiB as a message, and 64 MiB of it some GB.
HUGE = [
    ("jobs", EMPTY * 100_000, queue.PushRequest),
    ("jobs", b"\x83\x01\x84\x01" + EMPTY * 100_000, queue.PushRequest),
    ("jobs", one_job(10, _field(2, EMPTY * 210_000)), queue.PushRequest),
    ("jobs", one_job(6, b"") + one_job(10, _field(2, EMPTY) * 210_000), queue.PushRequest),
    ("jobs", _field(1, _field(6, b"\x0a\x00") * 110_000), queue.PushRequest),
    ("states", _field(3, b"\x01" * 210_000), queue.ListJobsRequest),
    ("states", b"\x18\x01" * 100_000, queue.ListJobsRequest),
]


@pytest.mark.parametrize(("field", "raw", "kind"), HUGE, ids=range(len(HUGE)))
def test_a_request_of_very_many_parts_is_refused_before_it_is_read(
    field: str, raw: bytes, kind: Any
) -> None:
    with pytest.raises(InvalidField) as refused:
        check_parts(raw, kind.DESCRIPTOR, 1_000)
    assert refused.value.field == field


def test_the_largest_good_requests_are_let_through() -> None:
    headers = {f"header-{number}": "v" for number in range(30)}
    job = Job(queue="q", type="T", payload=b"p" * 5_000, headers=headers)
    job.retry.delays.delays.extend([Duration(seconds=1)] * 5)
    raw = queue.PushRequest(jobs=[job] * 1_000).SerializeToString()
    check_parts(raw, queue.PushRequest.DESCRIPTOR, 1_000)
    payload = EMPTY * (32 << 20)
    check_parts(one_job(4, payload), queue.PushRequest.DESCRIPTOR, 1_000)


SMALL_JOB = one_job(4, b"p" * 60)
#: Of more than 64 KiB, some of them with an entry too many, others with all that a batch may have.
BATCHES = {
    "jobs": SMALL_JOB * 1_999,
    "a flag": SMALL_JOB * 1_999 + b"\x10\x01",
    "two flags": SMALL_JOB * 1_999 + b"\x10\x01" * 2,
    "too many": SMALL_JOB * 2_001,
    "many fields": SMALL_JOB * 1_500 + b"\x10\x01" * 501,
    "a group": SMALL_JOB * 1_990 + b"\x9b\x06" + b"\x10\x01" * 11 + b"\x9c\x06",
    "other numbers": SMALL_JOB * 1_900 + b"\x9d\x06abcd" * 101,
    "cut off": (SMALL_JOB * 2_001)[:-1],
    "cut off early": (SMALL_JOB * 1_999)[:-1],
    "a large one": SMALL_JOB * 1_000 + _field(1, _field(6, EMPTY) * 110_000),
    "no jobs": _field(9, b"x" * 70_000),
    "many of nothing": EMPTY * 40_000,
    "beyond a MiB": one_job(4, b"p" * 600) * 2_001,
}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("kind", [queue.PushRequest, queue.AckRequest, queue.ReserveRequest])
def test_what_is_seen_at_a_glance_is_what_is_counted(
    name: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _refused(BATCHES[name], kind)
    monkeypatch.setattr(parts, "is_plain", lambda *_: False)
    assert found == _refused(BATCHES[name], kind)


def _refused(raw: bytes, kind: Any) -> str | None:
    try:
        check_parts(raw, kind.DESCRIPTOR, 1_000)
    except InvalidField as error:
        return str(error)
    return None


def test_a_plain_batch_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_Count", None)
    for name in ("jobs", "a flag"):
        check_parts(BATCHES[name], queue.PushRequest.DESCRIPTOR, 1_000)


async def test_a_broker_names_the_field_that_has_too_many_parts() -> None:
    async with FuzzedBroker(MemoryDriver(Engine())) as broker:
        answer = await broker.call("/towline.v1.QueueService/Push", EMPTY * 100_000)
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_error_does_not_repeat_a_long_name_of_a_store() -> None:
    request = admin.MoveQueueRequest(queue="q", store="s" * 20_000)
    async with FuzzedBroker(MemoryDriver(Engine())) as broker:
        raw = request.SerializeToString()
        answer = await broker.call("/towline.v1.AdminService/MoveQueue", raw)
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT


#: Sound by their checksums: a name that is no UTF-8, and a queue that its record does not name.
UNSOUND = {
    "is no UTF-8": b"\xdd\x00\x00\x00\x01\x92\x00\x91\xa1\xff",
    "no release wrote": msgspec.msgpack.encode([[0, [], [], [], [[7, False]]]]),
}


@pytest.mark.parametrize("what", UNSOUND)
async def test_a_record_that_makes_no_sense_is_refused_and_named(what: str, tmp_path: Path) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    content = segment(1, 1, [UNSOUND[what]])
    segments.path_of(directory, 1).write_bytes(content)
    with pytest.raises(Damaged, match=what) as refused:
        async with opened(directory):
            pass
    assert refused.value.offset == segments.HEADER_SIZE


DELAYS = [Duration(seconds=2**63 - 1), Duration(seconds=-1), Duration(seconds=1, nanos=-1)]


@pytest.mark.parametrize("delay", DELAYS, ids=str)
def test_a_delay_that_nobody_can_wait_is_none(delay: Duration) -> None:
    error = from_item_error(ItemError(code=8, retry_after=delay))
    assert isinstance(error, ResourceExhausted)
    assert error.retry_after in (None, 0.999999999, 1.0)
    status = Status()
    for detail in (ErrorInfo(domain="towline"), RetryInfo(retry_delay=delay)):
        url = f"type.googleapis.com/google.rpc.{detail.DESCRIPTOR.name}"
        status.details.append(AnyMessage(type_url=url, value=detail.SerializeToString()))
    failed = FailedCall(status.SerializeToString(), grpc.StatusCode.UNAVAILABLE)
    from_rpc_error(failed)


@pytest.mark.parametrize("nanos", [-1, 2**31 - 1])
def test_a_time_that_is_none_is_an_answer_that_makes_no_sense(nanos: int) -> None:
    with pytest.raises(BrokerError, match="a time that is none"):
        read_time(Timestamp(seconds=1, nanos=nanos))


class _Counted(bytes):
    alive = 0

    def __init__(self, _: bytes) -> None:
        _Counted.alive += 1

    def __del__(self) -> None:
        _Counted.alive -= 1


@pytest.mark.parametrize("raw", [EMPTY * 100_000, b"\xff" * 100_000])
async def test_a_request_that_is_refused_is_forgotten_at_once(raw: bytes) -> None:
    """And not when the garbage collector comes by: it may be large."""
    async with FuzzedBroker(MemoryDriver(Engine())) as broker:
        gc.disable()
        try:
            answer = await broker.call("/towline.v1.QueueService/Push", _Counted(raw))
            assert _Counted.alive == 0
        finally:
            gc.enable()
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
