"""A batch whose items stand for themselves: one bad item never fails it."""

from collections.abc import AsyncIterator
from math import nan
from typing import Any

import pytest

from tests.support.calls import Calls, calls_to, seconds
from towline.ids import uuid7
from towline.v1.errors_pb2 import ItemError
from towline.v1.job_pb2 import Failure, Job, JobState, Progress
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    GetJobRequest,
    HeartbeatRequest,
    LeaseHeartbeat,
    LeaseOutcome,
    Nack,
    NackRequest,
    PushOutcome,
    PushRequest,
    QueueChoice,
    Release,
    ReserveRequest,
    WorkerDirective,
)
from towline_broker.server.configuration.settings import CoreOptions, Settings
from towline_broker.server.serving import running_broker

OK = LeaseOutcome.LEASE_OUTCOME_OK
NOT_FOUND = LeaseOutcome.LEASE_OUTCOME_NOT_FOUND
REJECTED = LeaseOutcome.LEASE_OUTCOME_REJECTED
ALREADY_SETTLED = LeaseOutcome.LEASE_OUTCOME_ALREADY_SETTLED
DAY = 24 * 3600
INVALID_ARGUMENT, RESOURCE_EXHAUSTED = 3, 8

#: Such a token could have been given by a broker, but was not.
UNKNOWN = f"q/{uuid7()}/AAAAAAAAAAAA"
GARBAGE = ["", "x", "q/1/2", UNKNOWN + "!", UNKNOWN.upper(), "q" * 200 + UNKNOWN, "x" * 100_000]


async def leased(calls: Calls, number: int = 1, **fields: Any) -> list[str]:
    """Tokens of so many leases."""
    jobs = [Job(type="T", queue="q", **fields)] * number
    await calls.queue.Push(PushRequest(jobs=jobs))
    request = ReserveRequest(queues=[QueueChoice(name="q")], max_jobs=number, worker_id="w")
    reply = await calls.queue.Reserve(request)
    assert len(reply.leases) == number
    return [lease.lease_token for lease in reply.leases]


def job_id(token: str) -> str:
    return token.split("/")[1]


async def info(calls: Calls, token: str) -> Any:
    return (await calls.queue.GetJob(GetJobRequest(id=job_id(token)))).job


def refusal(field: str, error: ItemError) -> None:
    assert (error.code, error.reason, error.field) == (INVALID_ARGUMENT, "INVALID_FIELD", field)
    assert error.message


async def test_each_ack_gets_its_own_outcome_in_order(calls: Calls) -> None:
    first, second, third = await leased(calls, 3)
    await calls.queue.Nack(NackRequest(nacks=[Nack(lease_token=third, dead_letter=True)]))
    acks = [
        Ack(lease_token=first, result=b"r" * 1024 * 1024),
        Ack(lease_token="x"),
        Ack(lease_token=second, result=b"r" * (1024 * 1024 + 1)),
        Ack(lease_token=UNKNOWN),
        Ack(lease_token=first),
        Ack(lease_token=third),
    ]
    reply = await calls.queue.Ack(AckRequest(acks=acks))
    outcomes = [result.outcome for result in reply.results]
    assert outcomes == [OK, NOT_FOUND, REJECTED, NOT_FOUND, OK, ALREADY_SETTLED]
    refusal("acks[2].result", reply.results[2].error)
    assert not reply.results[0].HasField("error")
    assert (await info(calls, first)).result == b"r" * 1024 * 1024
    # The lease of the refused one is still held.
    again = await calls.queue.Ack(AckRequest(acks=[Ack(lease_token=second, result=b"small")]))
    assert again.results[0].outcome == OK


@pytest.mark.parametrize("token", GARBAGE, ids=range(len(GARBAGE)))
async def test_a_token_that_no_broker_gave_is_not_found(token: str, calls: Calls) -> None:
    acked = await calls.queue.Ack(AckRequest(acks=[Ack(lease_token=token)]))
    nacked = await calls.queue.Nack(NackRequest(nacks=[Nack(lease_token=token)]))
    leases = [LeaseHeartbeat(lease_token=token)]
    beaten = await calls.queue.Heartbeat(HeartbeatRequest(leases=leases))
    for reply in (acked, nacked, beaten):
        assert [result.outcome for result in reply.results] == [NOT_FOUND]


NACKS: list[tuple[str, dict[str, Any], bool]] = [
    ("retry_after", {"retry_after": seconds(0)}, True),
    ("retry_after", {"retry_after": seconds(366 * DAY)}, True),
    ("retry_after", {"retry_after": seconds(-1)}, False),
    ("retry_after", {"retry_after": seconds(366 * DAY + 1)}, False),
    ("release.delay", {"release": Release()}, True),
    ("release.delay", {"release": Release(delay=seconds(366 * DAY))}, True),
    ("release.delay", {"release": Release(delay=seconds(-0.001))}, False),
    ("release.delay", {"release": Release(delay=seconds(366 * DAY + 1))}, False),
    ("dead_letter", {"dead_letter": True}, True),
    ("dead_letter", {"dead_letter": False}, False),
]


@pytest.mark.parametrize(("field", "action", "good"), NACKS)
async def test_a_nack_with_a_wrong_action_is_refused_alone(
    field: str, action: dict[str, Any], good: bool, calls: Calls
) -> None:
    first, second = await leased(calls, 2)
    nacks = [Nack(lease_token=first), Nack(lease_token=second, **action)]
    reply = await calls.queue.Nack(NackRequest(nacks=nacks))
    assert reply.results[0].outcome == OK
    if good:
        assert reply.results[1].outcome == OK
    else:
        assert reply.results[1].outcome == REJECTED
        refusal(f"nacks[1].{field}", reply.results[1].error)
        assert (await info(calls, second)).state == JobState.JOB_STATE_LEASED


async def test_the_texts_of_a_failure_are_cut_and_never_refused(calls: Calls) -> None:
    (token,) = await leased(calls)
    failure = Failure(type="é" * 300, message="é" * 5_000, trace="first" + "é" * 50_000 + "last")
    nack = Nack(lease_token=token, failure=failure, dead_letter=True)
    await calls.queue.Nack(NackRequest(nacks=[nack]))
    last = (await info(calls, token)).last_failure
    assert last.type == "é" * 128
    assert last.message == "é" * 2048
    assert len(last.trace.encode()) in (32 * 1024 - 1, 32 * 1024)
    assert last.trace.endswith("élast")
    assert last.failed_at.seconds > 1_500_000_000


async def test_a_failure_that_fits_is_kept_as_it_is(calls: Calls) -> None:
    (token,) = await leased(calls)
    failure = Failure(type="E" * 256, message="m" * 4096, trace="t" * 32 * 1024)
    nack = Nack(lease_token=token, failure=failure, dead_letter=True)
    await calls.queue.Nack(NackRequest(nacks=[nack]))
    last = (await info(calls, token)).last_failure
    assert (last.type, last.message, last.trace) == (failure.type, failure.message, failure.trace)


HEARTBEATS: list[tuple[str, dict[str, Any], bool]] = [
    ("extend", {"extend": seconds(1)}, True),
    ("extend", {"extend": seconds(12 * 3600)}, True),
    ("extend", {"extend": seconds(0.999)}, False),
    ("extend", {"extend": seconds(12 * 3600 + 1)}, False),
    ("extend", {"extend": seconds(-1)}, False),
    ("progress.fraction", {"progress": Progress(fraction=0)}, True),
    ("progress.fraction", {"progress": Progress(fraction=1)}, True),
    ("progress.fraction", {"progress": Progress(fraction=1.001)}, False),
    ("progress.fraction", {"progress": Progress(fraction=-0.001)}, False),
    ("progress.fraction", {"progress": Progress(fraction=nan)}, False),
    ("progress.checkpoint", {"progress": Progress(checkpoint=b"c" * 64 * 1024)}, True),
    ("progress.checkpoint", {"progress": Progress(checkpoint=b"c" * (64 * 1024 + 1))}, False),
]


@pytest.mark.parametrize(
    ("field", "beat", "good"), HEARTBEATS, ids=[f"{n}-{h[0]}" for n, h in enumerate(HEARTBEATS)]
)
async def test_a_wrong_heartbeat_is_refused_alone(
    field: str, beat: dict[str, Any], good: bool, calls: Calls
) -> None:
    first, second = await leased(calls, 2)
    leases = [LeaseHeartbeat(lease_token=first, **beat), LeaseHeartbeat(lease_token=second)]
    reply = await calls.queue.Heartbeat(HeartbeatRequest(worker_id="w", leases=leases))
    assert reply.directive == WorkerDirective.WORKER_DIRECTIVE_NONE
    assert reply.results[1].outcome == OK
    assert 29 < reply.results[1].lease_remaining.ToTimedelta().total_seconds() <= 30
    if good:
        assert reply.results[0].outcome == OK
    else:
        assert reply.results[0].outcome == REJECTED
        refusal(f"leases[0].{field}", reply.results[0].error)


async def test_an_anonymous_heartbeat_gets_no_directive(calls: Calls) -> None:
    reply = await calls.queue.Heartbeat(HeartbeatRequest())
    assert reply.directive == WorkerDirective.WORKER_DIRECTIVE_UNSPECIFIED


async def test_a_partial_push_stores_the_good_jobs_and_answers_in_order(calls: Calls) -> None:
    known = uuid7()
    await calls.queue.Push(PushRequest(jobs=[Job(type="T", id=known)]))
    jobs = [
        Job(type="T"),
        Job(type="!", id=uuid7()),
        Job(type="T", id=known),
        Job(type="T", payload=b"x" * (1024 * 1024 + 1)),
        Job(type="T"),
    ]
    reply = await calls.queue.Push(PushRequest(jobs=jobs, allow_partial=True))
    assert [result.outcome for result in reply.results] == [
        PushOutcome.PUSH_OUTCOME_CREATED,
        PushOutcome.PUSH_OUTCOME_REJECTED,
        PushOutcome.PUSH_OUTCOME_EXISTING,
        PushOutcome.PUSH_OUTCOME_REJECTED,
        PushOutcome.PUSH_OUTCOME_CREATED,
    ]
    refusal("jobs[1].type", reply.results[1].error)
    refusal("jobs[3].payload", reply.results[3].error)
    assert reply.results[1].job_id == jobs[1].id
    assert reply.results[2].job_id == known


@pytest.fixture
async def full_calls(store: str) -> AsyncIterator[Calls]:
    settings = Settings(store=store, listen="127.0.0.1:0", core=CoreOptions(max_queue_depth=2))
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        yield calls


async def test_a_partial_push_fills_a_queue_up_to_its_limit(full_calls: Calls) -> None:
    jobs = [Job(type="T", queue="a") for _ in range(3)] + [Job(type="T", queue="b")]
    reply = await full_calls.queue.Push(PushRequest(jobs=jobs, allow_partial=True))
    assert [result.outcome for result in reply.results] == [
        PushOutcome.PUSH_OUTCOME_CREATED,
        PushOutcome.PUSH_OUTCOME_CREATED,
        PushOutcome.PUSH_OUTCOME_REJECTED,
        PushOutcome.PUSH_OUTCOME_CREATED,
    ]
    error = reply.results[2].error
    assert (error.code, error.reason, error.field) == (RESOURCE_EXHAUSTED, "QUEUE_FULL", "")
    assert "2" in error.message
    assert error.retry_after.ToTimedelta().total_seconds() >= 1
