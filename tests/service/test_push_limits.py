"""Every bound of a job: what lies on it is stored, what lies beyond is refused by its path."""

from collections.abc import AsyncIterator
from datetime import timedelta
from math import nan
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.calls import Calls, calls_to, failure_of, seconds
from towline.ids import uuid7
from towline.v1.admin_service_pb2 import ListQueuesRequest
from towline.v1.job_pb2 import DelayList, ExponentialBackoff, Job, RetryPolicy
from towline.v1.queue_service_pb2 import GetJobRequest, PushOutcome, PushRequest
from towline_broker.server.serving import running_broker

DAY = 24 * 3600
KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
async def calls() -> AsyncIterator[Calls]:
    async with running_broker() as server, calls_to(str(server.address)) as calls:
        yield calls


def job(**fields: Any) -> Job:
    return Job(**{"type": "T", **fields})


def retry(**fields: Any) -> Job:
    return job(retry=RetryPolicy(**fields))


def delays(*values: float) -> Job:
    return retry(delays=DelayList(delays=[seconds(value) for value in values]))


def backoff(**fields: Any) -> Job:
    return retry(exponential=ExponentialBackoff(**fields))


def run_at(ahead: timedelta) -> Job:
    moment = Timestamp()
    moment.GetCurrentTime()
    moment.FromNanoseconds(moment.ToNanoseconds() + int(ahead.total_seconds()) * 1_000_000_000)
    return job(run_at=moment)


#: What lies on a bound, by the path of its field.
ALLOWED: dict[str, list[Job]] = {
    "id": [job(id=uuid7()), job()],
    "queue": [job(queue="a"), job(queue="Q" * 128), job(queue="9.x_y:z-"), job()],
    "type": [job(type="T" * 128)],
    "payload": [job(payload=b"x" * MIB), job()],
    "content_type": [job(content_type="t" * 128), job(content_type="é" * 64)],
    "headers": [
        job(headers={"k": "v" * (8 * KIB - 1)}),
        job(headers={"k" * 128: "", "é" * 64: "é"}),
        job(headers={f"{n:03}": "x" * 61 for n in range(128)}),
        job(payload=b"x" * MIB, headers={chr(n): "" for n in range(0x100, 0x500)}),
    ],
    "priority": [job(priority=2**31 - 1), job(priority=-(2**31))],
    "delay": [job(delay=seconds(0)), job(delay=seconds(3_653 * DAY))],
    "run_at": [
        run_at(timedelta(days=3_652)),
        run_at(timedelta(days=-9_999)),
        job(run_at=Timestamp(seconds=-62_135_596_800)),
    ],
    "retry": [retry()],
    "retry.max_attempts": [retry(max_attempts=1), retry(max_attempts=1000)],
    "retry.jitter": [retry(jitter=0.0), retry(jitter=1.0)],
    "retry.delays": [delays(0), delays(366 * DAY), delays(*[1] * 100)],
    "retry.exponential": [
        backoff(),
        backoff(multiplier=1.0),
        backoff(multiplier=100.0),
        backoff(initial=seconds(0), max=seconds(366 * DAY)),
        backoff(initial=seconds(366 * DAY), max=seconds(0)),
    ],
    "timeout": [job(timeout=seconds(0.001)), job(timeout=seconds(366 * DAY))],
    "expires_in": [job(expires_in=seconds(0.001)), job(expires_in=seconds(3_653 * DAY))],
    "retention": [job(retention=seconds(0)), job(retention=seconds(366 * DAY))],
    "unique_key": [job(unique_key="k" * 256), job(unique_key="é" * 128)],
    "unique_for": [
        job(unique_key="a", unique_for=seconds(0.001)),
        job(unique_key="b", unique_for=seconds(366 * DAY)),
    ],
}

#: What lies beyond, with the path that the error has to name.
REFUSED: list[tuple[str, Job]] = [
    ("id", job(id="x")),
    ("id", job(id=uuid7().upper())),
    ("id", job(id=uuid7() + "0")),
    ("id", job(id="x" * 100_000)),
    ("id", job(id=uuid7().replace("-", "_"))),
    ("id", job(id=uuid7()[:-1] + "\N{ARABIC-INDIC DIGIT ONE}")),
    ("queue", job(queue="Q" * 129)),
    ("queue", job(queue="Q" * 100_000)),
    ("queue", job(queue=".q")),
    ("queue", job(queue="a b")),
    ("queue", job(queue="a\n")),
    ("queue", job(queue="é")),
    ("type", Job()),
    ("type", job(type="T" * 129)),
    ("type", job(type="T" * 100_000)),
    ("type", job(type="os/system")),
    ("payload", job(payload=b"x" * (MIB + 1))),
    ("payload", job(payload=b"x" * (20 * MIB))),
    ("content_type", job(content_type="t" * 129)),
    ("content_type", job(content_type="é" * 65)),
    ("content_type", job(content_type="t" * MIB)),
    ("headers", job(headers={"k": "v" * 8 * KIB})),
    ("headers", job(headers={"k": "é" * (4 * KIB)})),
    ("headers", job(headers={"k": "v" * (20 * MIB)})),
    ("headers", job(headers={"": "v"})),
    ("headers", job(headers={"k" * 129: "v"})),
    ("timeout", job(timeout=seconds(2**40))),
    ("expires_in", job(expires_in=seconds(2**40))),
    ("retention", job(retention=seconds(2**40))),
    ("unique_key", job(unique_key="k" * MIB)),
    ("unique_for", job(unique_key="k", unique_for=seconds(2**40))),
    ("delay", job(delay=Duration(nanos=-1))),
    ("delay", job(delay=seconds(-1))),
    ("delay", job(delay=seconds(3_653 * DAY + 1))),
    ("delay", job(delay=Duration(seconds=2**63 - 1))),
    ("delay", job(delay=Duration(seconds=-(2**63)))),
    ("delay", job(delay=Duration(seconds=1, nanos=-1))),
    ("delay", job(delay=Duration(nanos=1_000_000_000))),
    ("run_at", run_at(timedelta(days=3_654))),
    ("run_at", job(run_at=Timestamp(seconds=253_402_300_800))),
    ("run_at", job(run_at=Timestamp(seconds=-62_135_596_801))),
    ("run_at", job(run_at=Timestamp(seconds=1, nanos=-1))),
    ("run_at", job(run_at=Timestamp(seconds=1, nanos=1_000_000_000))),
    ("retry.max_attempts", retry(max_attempts=1001)),
    ("retry.max_attempts", retry(max_attempts=2**31 - 1)),
    ("retry.max_attempts", retry(max_attempts=-1)),
    ("retry.jitter", retry(jitter=1.000001)),
    ("retry.jitter", retry(jitter=-0.000001)),
    ("retry.jitter", retry(jitter=nan)),
    ("retry.delays.delays", retry(delays=DelayList())),
    ("retry.delays.delays", delays(*[1] * 101)),
    ("retry.delays.delays", delays(*[1] * 10_000)),
    ("retry.delays.delays[1]", delays(1, -1)),
    ("retry.delays.delays[2]", delays(1, 1, 366 * DAY + 1)),
    ("retry.exponential.initial", backoff(initial=seconds(366 * DAY + 1))),
    ("retry.exponential.initial", backoff(initial=seconds(-1))),
    ("retry.exponential.max", backoff(max=seconds(366 * DAY + 1))),
    ("retry.exponential.multiplier", backoff(multiplier=0.999999)),
    ("retry.exponential.multiplier", backoff(multiplier=100.000001)),
    ("retry.exponential.multiplier", backoff(multiplier=float("inf"))),
    ("retry.exponential.multiplier", backoff(multiplier=nan)),
    ("timeout", job(timeout=seconds(0))),
    ("timeout", job(timeout=seconds(366 * DAY + 1))),
    ("expires_in", job(expires_in=seconds(0))),
    ("expires_in", job(expires_in=seconds(3_653 * DAY + 1))),
    ("retention", job(retention=seconds(-1))),
    ("retention", job(retention=seconds(366 * DAY + 1))),
    ("unique_key", job(unique_key="k" * 257)),
    ("unique_key", job(unique_key="é" * 129)),
    ("unique_key", job(unique_key="a\0b")),
    ("unique_for", job(unique_for=seconds(1))),
    ("unique_for", job(unique_key="k", unique_for=seconds(0))),
    ("unique_for", job(unique_key="k", unique_for=seconds(366 * DAY + 1))),
]


@pytest.mark.parametrize("path", ALLOWED)
async def test_a_job_on_the_bound_of_a_field_is_stored(path: str, calls: Calls) -> None:
    jobs = ALLOWED[path]
    reply = await calls.queue.Push(PushRequest(jobs=jobs))
    assert [result.outcome for result in reply.results] == [PushOutcome.PUSH_OUTCOME_CREATED] * len(
        jobs
    )


@pytest.mark.parametrize(
    ("path", "wrong"), REFUSED, ids=[f"{n}-{path}" for n, (path, _) in enumerate(REFUSED)]
)
async def test_a_job_beyond_a_bound_is_refused_by_the_path_of_its_field(
    path: str, wrong: Job, calls: Calls
) -> None:
    failure = await failure_of(calls.queue.Push(PushRequest(jobs=[job(), wrong])))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.reason == "INVALID_FIELD"
    assert list(failure.violations) == [f"jobs[1].{path}"]
    assert len(failure.violations[f"jobs[1].{path}"]) < 400
    assert failure.message.startswith(f"jobs[1].{path}: ")
    partial = await calls.queue.Push(PushRequest(jobs=[wrong], allow_partial=True))
    assert partial.results[0].error.field == f"jobs[0].{path}"


async def test_fields_that_this_broker_does_not_know_carry_nothing_large(calls: Calls) -> None:
    length = b"\x80\x80\x80\x01"  # 2 MiB
    small = Job.FromString(job().SerializeToString() + b"\x82\x7d\x01x")
    large = Job.FromString(job().SerializeToString() + b"\x82\x7d" + length + b"x" * 2 * MIB)
    await calls.queue.Push(PushRequest(jobs=[small]))
    failure = await failure_of(calls.queue.Push(PushRequest(jobs=[small, large])))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(failure.violations) == ["jobs[1]"]


@pytest.mark.parametrize("number", [0, 1001, 2_000])
async def test_a_batch_of_too_few_or_too_many_jobs_is_refused(number: int, calls: Calls) -> None:
    for partial in (False, True):
        request = PushRequest(jobs=[job()] * number, allow_partial=partial)
        failure = await failure_of(calls.queue.Push(request))
        assert failure.violations == {"jobs": f"has {number} entries; expected 1 to 1000"}


async def test_a_batch_of_far_too_many_jobs_is_refused_unread(calls: Calls) -> None:
    failure = await failure_of(calls.queue.Push(PushRequest(jobs=[job()] * 20_000)))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    more = "has far more entries than the 1000 of the largest batch; send fewer"
    assert failure.violations == {"jobs": more}


async def test_the_largest_batch_is_stored(calls: Calls) -> None:
    reply = await calls.queue.Push(PushRequest(jobs=[job()] * 1000))
    assert len({result.job_id for result in reply.results}) == 1000


async def test_all_wrong_fields_of_a_call_are_named_at_once_and_nothing_is_stored(
    calls: Calls,
) -> None:
    wrong = Job(queue="!", priority=1, delay=seconds(-1), unique_for=seconds(1))
    failure = await failure_of(calls.queue.Push(PushRequest(jobs=[job(id=uuid7()), wrong])))
    assert set(failure.violations) == {
        "jobs[1].queue",
        "jobs[1].type",
        "jobs[1].delay",
        "jobs[1].unique_for",
    }
    assert await queues(calls) == []


async def test_very_many_wrong_fields_are_told_as_far_as_they_fit_into_a_header(
    calls: Calls,
) -> None:
    # A client refuses headers of more than 8 KiB, and would then see no error of ours at all.
    wrong = Job(queue="!" * 100, type="?" * 100, id="x" * 100)
    failure = await failure_of(calls.queue.Push(PushRequest(jobs=[wrong] * 1000)))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert 10 < len(failure.violations) <= 100
    assert sum(len(key) + len(value) for key, value in failure.metadata.items()) < 6_000


async def test_a_request_larger_than_a_message_may_be_is_refused(calls: Calls) -> None:
    jobs = [job(payload=b"x" * MIB)] * 65
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calls.queue.Push(PushRequest(jobs=jobs))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(64 * MIB) in (caught.value.details() or "")
    assert await queues(calls) == []


async def test_a_job_without_id_gets_one_and_without_queue_goes_to_default(calls: Calls) -> None:
    reply = await calls.queue.Push(PushRequest(jobs=[Job(type="T", payload=b"p")]))
    stored = await get(calls, reply.results[0].job_id)
    assert stored == Job(id=reply.results[0].job_id, queue="default", type="T", payload=b"p")


async def test_a_job_is_handed_on_as_it_was_pushed(calls: Calls) -> None:
    pushed = job(
        id=uuid7(),
        queue="q",
        payload=b"\0\xff",
        content_type="application/x",
        headers={"traceparent": "00-1-2-03", "ü": ""},
        priority=-5,
        retry=RetryPolicy(max_attempts=7, delays=DelayList(delays=[seconds(1.5)]), jitter=0.0),
        timeout=seconds(3),
        retention=seconds(60),
        unique_key="k",
        unique_for=seconds(5),
    )
    await calls.queue.Push(PushRequest(jobs=[pushed]))
    assert await get(calls, pushed.id) == pushed


async def get(calls: Calls, job_id: str) -> Job:
    reply = await calls.queue.GetJob(GetJobRequest(id=job_id))
    stored: Job = reply.job.job
    return stored


async def queues(calls: Calls) -> list[Any]:
    reply = await calls.admin.ListQueues(ListQueuesRequest())
    return list(reply.queues)
