"""A broker over SQS, called as any client calls it."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.broker_process import BrokerProcess
from tests.support.calls import Calls, calls_to, failure_of, seconds
from tests.support.waiting import until
from towline.ids import uuid7
from towline.v1.admin_service_pb2 import (
    ListQueuesRequest,
    MoveQueueRequest,
    PauseQueueRequest,
    PurgeQueueRequest,
    ResumeQueueRequest,
    StatsRequest,
)
from towline.v1.dead_letter_service_pb2 import (
    DeadFilter,
    DeadSelection,
    DiscardDeadRequest,
    ListDeadRequest,
    RequeueDeadRequest,
)
from towline.v1.job_pb2 import Failure, Job, RetryPolicy
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    CancelJobRequest,
    GetJobRequest,
    HeartbeatRequest,
    LeaseHeartbeat,
    LeaseOutcome,
    ListJobsRequest,
    Nack,
    NackRequest,
    PushOutcome,
    PushRequest,
    QueueChoice,
    Release,
    ReserveRequest,
)
from towline_broker.server.configuration.queue_settings import QueueOptions
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.exits import ConfigError
from towline_broker.server.serving import running_broker

OK = LeaseOutcome.LEASE_OUTCOME_OK
NOT_FOUND = LeaseOutcome.LEASE_OUTCOME_NOT_FOUND
OF_QUEUE = DeadSelection(filter=DeadFilter(queue="q"))


@pytest.fixture
async def calls(url: str) -> AsyncIterator[Calls]:
    settings = Settings(store=url, listen="127.0.0.1:0")
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        yield calls


async def push(calls: Calls, *jobs: Job) -> Any:
    return await calls.queue.Push(PushRequest(jobs=jobs))


def job(**fields: Any) -> Job:
    return Job(**{"id": uuid7(), "queue": "q", "type": "T", "payload": b"\x00\xff", **fields})


async def reserve(calls: Calls, most: int = 1, wait: float = 10, **fields: Any) -> list[Any]:
    request = ReserveRequest(
        queues=[QueueChoice(name="q")], max_jobs=most, worker_id="w", wait=seconds(wait), **fields
    )
    return list((await calls.queue.Reserve(request)).leases)


async def ack(calls: Calls, *tokens: str) -> list[int]:
    reply = await calls.queue.Ack(AckRequest(acks=[Ack(lease_token=token) for token in tokens]))
    return [result.outcome for result in reply.results]


async def nack(calls: Calls, token: str, **action: Any) -> int:
    reply = await calls.queue.Nack(NackRequest(nacks=[Nack(lease_token=token, **action)]))
    outcome: int = reply.results[0].outcome
    return outcome


async def figures(calls: Calls) -> Any:
    return (await calls.admin.Stats(StatsRequest())).total


async def test_p3_a_job_is_pushed_once_leased_and_acked_once(calls: Calls) -> None:
    pushed = job(headers={"trace": "1"}, content_type="x/y")
    for outcome in (PushOutcome.PUSH_OUTCOME_CREATED, PushOutcome.PUSH_OUTCOME_EXISTING):
        assert (await push(calls, pushed)).results[0].outcome == outcome
    (lease,) = await reserve(calls)
    assert (lease.job, lease.attempt) == (pushed, 1)
    assert await ack(calls, lease.lease_token) == [OK]
    assert await ack(calls, lease.lease_token) == [OK]
    assert await reserve(calls, wait=0) == []
    totals = (await figures(calls)).totals
    assert (totals.pushed, totals.started, totals.completed) == (1, 1, 1)


async def test_p5_a_retry_counts_and_a_release_does_not(calls: Calls) -> None:
    await push(calls, job())
    (lease,) = await reserve(calls)
    assert await nack(calls, lease.lease_token, release=Release()) == OK
    (lease,) = await reserve(calls)
    assert lease.attempt == 1
    failure = Failure(type="ValueError", message="boom")
    assert await nack(calls, lease.lease_token, failure=failure, retry_after=seconds(0)) == OK
    (lease,) = await reserve(calls)
    assert (lease.attempt, lease.last_failure.message) == (2, "boom")
    # A second for a fraction of one: SQS knows whole ones, and none is early.
    assert await nack(calls, lease.lease_token, retry_after=seconds(0.2)) == OK
    assert await reserve(calls, wait=0) == []
    (lease,) = await reserve(calls)
    assert lease.attempt == 3


async def test_p8_a_worker_that_waits_hears_of_a_delayed_job(calls: Calls) -> None:
    await push(calls, job(delay=seconds(1)))
    assert await reserve(calls, wait=0) == []
    (lease,) = await reserve(calls)
    assert lease.attempt == 1


async def test_p7_a_job_out_of_attempts_is_dead_and_can_be_requeued(calls: Calls) -> None:
    await push(calls, job(retry=RetryPolicy(max_attempts=1)))
    (lease,) = await reserve(calls)
    failure = Failure(type="ValueError", message="boom")
    assert await nack(calls, lease.lease_token, failure=failure) == OK
    assert (await figures(calls)).depth.dead == 1
    by_queue = RequeueDeadRequest(selection=OF_QUEUE)
    preview = RequeueDeadRequest(selection=OF_QUEUE, dry_run=True)
    assert (await calls.dead.RequeueDead(preview)).matched == 1
    reply = await calls.dead.RequeueDead(by_queue)
    assert (reply.matched, reply.requeued) == (1, 1)
    (lease,) = await reserve(calls)
    assert (lease.attempt, lease.last_failure.message) == (1, "boom")
    assert await nack(calls, lease.lease_token, dead_letter=True) == OK
    reply = await calls.dead.DiscardDead(DiscardDeadRequest(selection=OF_QUEUE))
    assert (reply.matched, reply.discarded) == (1, 1)
    assert (await figures(calls)).depth.dead == 0


async def test_p2_a_heartbeat_keeps_the_lease_beyond_its_deadline(calls: Calls) -> None:
    await push(calls, job())
    (lease,) = await reserve(calls, lease=seconds(1))
    beat = LeaseHeartbeat(lease_token=lease.lease_token, extend=seconds(30))
    reply = await calls.queue.Heartbeat(HeartbeatRequest(worker_id="w", leases=[beat]))
    assert reply.results[0].outcome == OK
    assert 25 < reply.results[0].lease_remaining.ToTimedelta().total_seconds() <= 30
    assert await reserve(calls, wait=2) == []
    assert await ack(calls, lease.lease_token) == [OK]


async def test_p5_p8_an_orphaned_job_is_back_and_ends_dead_if_it_kills_its_workers(
    calls: Calls,
) -> None:
    await push(calls, job(retry=RetryPolicy(max_attempts=2)))
    (first,) = await reserve(calls, lease=seconds(1))
    (second,) = await reserve(calls, lease=seconds(1))
    assert second.attempt == 2
    assert await ack(calls, first.lease_token) == [LeaseOutcome.LEASE_OUTCOME_LEASE_LOST]

    async def is_dead() -> bool:
        return bool((await figures(calls)).totals.dead_lettered)

    await until(is_dead, "the job is dead")
    totals = (await figures(calls)).totals
    assert (totals.lease_expired, totals.retried, totals.failed) == (2, 1, 2)


async def test_queues_are_paused_resumed_and_purged(calls: Calls) -> None:
    await push(calls, *[job() for _ in range(12)])
    await calls.admin.PauseQueue(PauseQueueRequest(queue="q"))
    assert await reserve(calls, wait=0) == []
    (queue,) = (await calls.admin.ListQueues(ListQueuesRequest())).queues
    assert (queue.name, queue.paused, queue.depth.ready) == ("q", True, 12)
    await calls.admin.ResumeQueue(ResumeQueueRequest(queue="q"))
    (lease,) = await reserve(calls)
    reply = await calls.admin.PurgeQueue(PurgeQueueRequest(queue="q", limit=100))
    assert reply.purged == 11
    assert await ack(calls, lease.lease_token) == [OK]


def ahead(by: float) -> Timestamp:
    moment = Timestamp()
    moment.GetCurrentTime()
    moment.FromNanoseconds(moment.ToNanoseconds() + int(by * 1e9))
    return moment


@pytest.mark.parametrize(
    ("field", "wrong", "way_out"),
    [
        ("priority", {"priority": 1}, "leave it at 0, or map queue 'q' to another store"),
        ("unique_key", {"unique_key": "k"}, "leave it empty, or map queue 'q'"),
        ("expires_in", {"expires_in": seconds(60)}, "leave it unset, or map queue 'q'"),
        ("retention", {"retention": seconds(60)}, "leave it unset, or map queue 'q'"),
        ("delay", {"delay": seconds(901)}, "keeps a delay of at most 15 min; ask for less"),
        ("run_at", {"run_at": ahead(86_400)}, "keeps a delay of at most 15 min; ask for less"),
        ("payload", {"payload": b"x" * 737_280}, "keeps at most 737280; send less"),
    ],
)
async def test_p9_a_job_that_the_store_cannot_keep_is_refused_by_its_field(
    field: str, wrong: dict[str, Any], way_out: str, calls: Calls
) -> None:
    jobs = [job(), job(**wrong)]
    failure = await failure_of(push(calls, *jobs))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    (told,) = failure.violations.items()
    assert told[0] == f"jobs[1].{field}"
    assert "a store of the kind sqs" in told[1]
    assert way_out in told[1]
    assert not (await calls.admin.ListQueues(ListQueuesRequest())).queues
    # The others may go through, if that is what the producer wants.
    reply = await calls.queue.Push(PushRequest(jobs=jobs, allow_partial=True))
    assert [result.error.field for result in reply.results] == ["", f"jobs[1].{field}"]


async def test_p11_what_the_store_just_keeps_is_stored(calls: Calls) -> None:
    largest = job(payload=b"x" * 730_000)
    await push(calls, largest, job(delay=seconds(900)), job(priority=0))
    leases = await reserve(calls, most=9)
    assert largest in [lease.job for lease in leases]


@pytest.mark.parametrize(
    ("service", "rpc", "request_message"),
    [
        ("queue", "GetJob", GetJobRequest(id=uuid7())),
        ("queue", "ListJobs", ListJobsRequest()),
        ("queue", "CancelJob", CancelJobRequest(ids=[uuid7()])),
        ("dead", "ListDead", ListDeadRequest()),
        ("dead", "RequeueDead", RequeueDeadRequest(selection=DeadSelection(ids=[uuid7()]))),
        (
            "dead",
            "RequeueDead",
            RequeueDeadRequest(selection=DeadSelection(filter=DeadFilter(type="T"))),
        ),
        ("dead", "DiscardDead", DiscardDeadRequest(selection=DeadSelection(ids=[uuid7()]))),
    ],
)
async def test_what_the_store_cannot_do_is_refused_by_its_reason(
    service: str, rpc: str, request_message: Any, calls: Calls
) -> None:
    await push(calls, job())
    failure = await failure_of(getattr(getattr(calls, service), rpc)(request_message))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNIMPLEMENTED, "STORE_CANNOT")
    assert "a store of the kind 'sqs' does not offer" in failure.message


async def test_a_queue_cannot_be_moved_out_of_sqs(url: str) -> None:
    settings = Settings(store=url, stores={"other": "memory:"}, listen="127.0.0.1:0")
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        await push(calls, job())
        failure = await failure_of(
            calls.admin.MoveQueue(MoveQueueRequest(queue="q", store="other"))
        )
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNIMPLEMENTED, "STORE_CANNOT")


async def test_stats_say_what_the_store_promises(calls: Calls) -> None:
    await push(calls, job())
    stats = await calls.admin.Stats(StatsRequest())
    assert stats.broker.driver == "sqs"
    assert "14 days" in stats.broker.durability_note
    assert [queue.figures.depth.ready for queue in stats.queues] == [1]
    # Depths by type are nobody's to know.
    assert [figures.type for figures in stats.types] == ["T"]


async def test_p1_p3_jobs_of_a_killed_broker_come_again(url: str) -> None:
    with BrokerProcess(url) as broker:
        async with calls_to(broker.address) as calls:
            await push(calls, *[job() for _ in range(3)])
            done, orphan = await reserve(calls, most=2, lease=seconds(1))
            assert await ack(calls, done.lease_token) == [OK]
        broker.kill()
        broker.start()
        async with calls_to(broker.address) as calls:
            # Its lease is forgotten, and the job comes again once SQS shows it.
            assert await ack(calls, orphan.lease_token) == [NOT_FOUND]
            again: dict[str, int] = {}

            async def both_are_back() -> bool:
                for lease in await reserve(calls, most=9, wait=1):
                    again[lease.job.id] = lease.attempt
                    assert await ack(calls, lease.lease_token) == [OK]
                return len(again) == 2

            await until(both_are_back, "both jobs are done", seconds=30)
            assert done.job.id not in again
            assert again[orphan.job.id] == 2


async def test_options_of_queues_that_sqs_cannot_keep_stop_the_start(url: str) -> None:
    options = {"emails.*": QueueOptions(retention=3_600, dead_letters=False, max_depth=5)}
    settings = Settings(store=url, listen="127.0.0.1:0", queues=options)
    with pytest.raises(ConfigError) as refused:
        async with running_broker(settings):
            pass
    _, *lines = str(refused.value).splitlines()
    assert [line.split(" (")[0].strip() for line in lines] == [
        "queues.\"emails.*\".retention: store 'default'",
        "queues.\"emails.*\".dead_letters: store 'default'",
    ]
    assert all("of the kind sqs" in line for line in lines)
