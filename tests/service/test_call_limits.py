"""Every bound of every other request: what lies on it passes, what lies beyond is refused by its
path."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.calls import Calls, answered, calls_to, failure_of, seconds
from towline.v1 import admin_service_pb2, dead_letter_service_pb2, queue_service_pb2
from towline.v1.job_pb2 import Job
from towline_broker.server.serving import running_broker

#: Untyped: wrong numbers of enums are part of the test.
queue: Any = queue_service_pb2
dead: Any = dead_letter_service_pb2
admin: Any = admin_service_pb2

HOUR = 3600
UUID = str(uuid.UUID(int=7))
LATE = Timestamp(seconds=253_402_300_800)


@pytest.fixture
async def calls() -> AsyncIterator[Calls]:
    async with running_broker() as server, calls_to(str(server.address)) as calls:
        await calls.queue.Push(queue.PushRequest(jobs=[Job(type="T", queue="q")]))
        yield calls


def reserve(**fields: Any) -> Any:
    return queue.ReserveRequest(**{"queues": [queue.QueueChoice(name="none")], **fields})


def of_queues(*names: str) -> Any:
    return queue.ReserveRequest(queues=[queue.QueueChoice(name=name) for name in names])


def weighted(**weights: int) -> Any:
    choices = [queue.QueueChoice(name=name, weight=weight) for name, weight in weights.items()]
    return queue.ReserveRequest(queues=choices)


def heartbeat(**fields: Any) -> Any:
    return queue.HeartbeatRequest(**fields)


def by_ids(*ids: str) -> dict[str, Any]:
    return {"selection": dead.DeadSelection(ids=ids)}


def by_filter(**fields: Any) -> dict[str, Any]:
    return {"selection": dead.DeadSelection(filter=dead.DeadFilter(**fields))}


ALLOWED: list[Message] = [
    reserve(max_jobs=1000),
    reserve(max_jobs=1),
    reserve(wait=seconds(0), lease=seconds(1)),
    reserve(lease=seconds(12 * HOUR)),
    reserve(worker_id="w" * 128, request_id="r " * 64),
    of_queues(*[f"q{n}" for n in range(100)]),
    weighted(a=1, b=1000),
    queue.ListJobsRequest(page_size=1000),
    queue.ListJobsRequest(page_size=1, states=[1, 2, 3, 4, 5, 6], view=2, queue="q", type="T"),
    queue.CancelJobRequest(ids=[UUID] * 1000),
    queue.AckRequest(acks=[queue.Ack(lease_token="none")] * 1000),
    queue.NackRequest(nacks=[queue.Nack(lease_token="none")] * 1000),
    heartbeat(),
    heartbeat(worker_id="w" * 128, leases=[queue.LeaseHeartbeat()] * 1000),
    dead.ListDeadRequest(page_size=1000, view=1),
    dead.ListDeadRequest(filter=dead.DeadFilter(reason=4, queue="q", type="T")),
    dead.RequeueDeadRequest(**by_ids(*[UUID] * 1000), limit=1000),
    dead.RequeueDeadRequest(**by_filter()),
    dead.DiscardDeadRequest(**by_filter(dead_before=Timestamp(seconds=253_402_300_799)), limit=1),
    admin.StatsRequest(),
    admin.StatsRequest(queues=["q"]),
    admin.PurgeQueueRequest(queue="q", limit=1000, dry_run=True),
]

REFUSED: list[tuple[str, Message]] = [
    ("id", queue.GetJobRequest()),
    ("id", queue.GetJobRequest(id="x")),
    ("wait", queue.GetJobRequest(id=UUID, wait=seconds(60.000001))),
    ("wait", queue.GetJobRequest(id=UUID, wait=seconds(-0.000001))),
    ("wait", queue.GetJobRequest(id=UUID, wait=seconds(10 * HOUR))),
    ("queue", queue.ListJobsRequest(queue="!")),
    ("type", queue.ListJobsRequest(type="T" * 129)),
    ("states[1]", queue.ListJobsRequest(states=[1, 0])),
    ("states[0]", queue.ListJobsRequest(states=[7])),
    ("page_size", queue.ListJobsRequest(page_size=1001)),
    ("page_size", queue.ListJobsRequest(page_size=2**31 - 1)),
    ("page_size", queue.ListJobsRequest(page_size=-1)),
    ("page_token", queue.ListJobsRequest(page_token="x")),
    ("page_token", queue.ListJobsRequest(page_token="x" * 100_000)),
    ("view", queue.ListJobsRequest(view=3)),
    ("ids", queue.CancelJobRequest()),
    ("ids", queue.CancelJobRequest(ids=[UUID] * 1001)),
    ("ids[2]", queue.CancelJobRequest(ids=[UUID, UUID, "x"])),
    ("queues", queue.ReserveRequest()),
    ("queues", of_queues(*[f"q{n}" for n in range(101)])),
    ("queues", of_queues(*[f"q{n}" for n in range(10_000)])),
    ("queues[0].name", of_queues("")),
    ("queues[1].name", of_queues("q", "Q" * 129)),
    ("queues[2].name", of_queues("q", "r", "q")),
    ("queues[1].weight", weighted(a=1, b=0)),
    ("queues[0].weight", weighted(a=1001, b=1)),
    ("queues[1].weight", weighted(a=1, b=-1)),
    ("max_jobs", reserve(max_jobs=1001)),
    ("max_jobs", reserve(max_jobs=-1)),
    ("max_jobs", reserve(max_jobs=2**31 - 1)),
    ("wait", reserve(wait=seconds(60.000001))),
    ("wait", reserve(wait=seconds(-1))),
    ("lease", reserve(lease=seconds(0.999999))),
    ("lease", reserve(lease=seconds(0))),
    ("lease", reserve(lease=seconds(-1))),
    ("lease", reserve(lease=seconds(12 * HOUR + 0.000001))),
    ("lease", reserve(lease=seconds(10_000 * HOUR))),
    ("worker_id", reserve(worker_id="w" * 129)),
    ("worker_id", reserve(worker_id="w w")),
    ("worker_id", reserve(worker_id="é")),
    ("worker_id", reserve(worker_id="w\n")),
    ("worker_id", reserve(worker_id="w" * 1_000_000)),
    ("request_id", reserve(request_id="r" * 129)),
    ("request_id", reserve(request_id="\x7f")),
    ("acks", queue.AckRequest()),
    ("acks", queue.AckRequest(acks=[queue.Ack()] * 1001)),
    ("nacks", queue.NackRequest()),
    ("nacks", queue.NackRequest(nacks=[queue.Nack()] * 1001)),
    ("leases", heartbeat(leases=[queue.LeaseHeartbeat()] * 1001)),
    ("worker_id", heartbeat(worker_id="w" * 129)),
    ("filter.queue", dead.ListDeadRequest(filter=dead.DeadFilter(queue="!"))),
    ("filter.type", dead.ListDeadRequest(filter=dead.DeadFilter(type="!"))),
    ("filter.reason", dead.ListDeadRequest(filter=dead.DeadFilter(reason=5))),
    ("filter.dead_after", dead.ListDeadRequest(filter=dead.DeadFilter(dead_after=LATE))),
    ("filter.dead_before", dead.ListDeadRequest(filter=dead.DeadFilter(dead_before=LATE))),
    ("page_size", dead.ListDeadRequest(page_size=1001)),
    ("page_token", dead.ListDeadRequest(page_token="0" * 17)),
    ("view", dead.ListDeadRequest(view=-1)),
    ("selection", dead.RequeueDeadRequest()),
    ("selection", dead.RequeueDeadRequest(selection=dead.DeadSelection())),
    (
        "selection",
        dead.DiscardDeadRequest(selection=dead.DeadSelection(ids=[UUID], filter=dead.DeadFilter())),
    ),
    ("selection.ids", dead.RequeueDeadRequest(**by_ids(*[UUID] * 1001))),
    ("selection.ids[1]", dead.DiscardDeadRequest(**by_ids(UUID, "x"))),
    ("selection.filter.queue", dead.RequeueDeadRequest(**by_filter(queue="!"))),
    ("limit", dead.RequeueDeadRequest(**by_filter(), limit=1001)),
    ("limit", dead.DiscardDeadRequest(**by_filter(), limit=-1)),
    ("queues[1]", admin.StatsRequest(queues=["q", ""])),
    ("queues", admin.StatsRequest(queues=["q"] * 1001)),
    ("queue", admin.PauseQueueRequest()),
    ("queue", admin.PauseQueueRequest(queue="!")),
    ("queue", admin.ResumeQueueRequest()),
    ("queue", admin.PurgeQueueRequest()),
    ("limit", admin.PurgeQueueRequest(queue="q", limit=1001)),
    ("limit", admin.PurgeQueueRequest(queue="q", limit=-1)),
    ("worker_id", admin.StopWorkerRequest()),
    ("worker_id", admin.StopWorkerRequest(worker_id="w" * 129)),
    ("directive", admin.StopWorkerRequest(worker_id="w", directive=4)),
]


def call(calls: Calls, request: Message) -> Any:
    """The call that this request is for."""
    method = request.DESCRIPTOR.name.removesuffix("Request")
    for stub in (calls.queue, calls.dead, calls.admin):
        if hasattr(stub, method):
            return getattr(stub, method)(request)
    raise AssertionError(method)


@pytest.mark.parametrize(
    "request_", ALLOWED, ids=[f"{n}-{r.DESCRIPTOR.name}" for n, r in enumerate(ALLOWED)]
)
async def test_a_request_on_its_bounds_is_answered(request_: Message, calls: Calls) -> None:
    await call(calls, request_)


@pytest.mark.parametrize(
    ("path", "request_"),
    REFUSED,
    ids=[f"{n}-{r.DESCRIPTOR.name}-{path}" for n, (path, r) in enumerate(REFUSED)],
)
async def test_a_request_beyond_a_bound_is_refused_by_the_path_of_its_field(
    path: str, request_: Message, calls: Calls
) -> None:
    failure = await failure_of(call(calls, request_))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.reason == "INVALID_FIELD"
    assert list(failure.violations) == [path]
    assert len(failure.violations[path]) < 400


async def test_a_wait_of_the_longest_length_is_granted(calls: Calls) -> None:
    # With a deadline, so that the test need not wait for so long.
    reply = await answered(lambda: calls.queue.Reserve(reserve(wait=seconds(60)), timeout=1))
    assert list(reply.leases) == []


async def test_metadata_are_taken_up_to_their_bound_and_never_by_chance(calls: Calls) -> None:
    async def stats(size: int) -> None:
        await calls.admin.Stats(admin.StatsRequest(), metadata=(("x-padding", "x" * size),))

    for _ in range(30):
        await stats(15_000)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stats(16 * 1024)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
