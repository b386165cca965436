"""What operators read over the wire: every figure, in total, by queue and by type; workers."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.core.manual_clock import START, ManualClock
from tests.support.calls import Calls, seconds
from tests.support.waiting import until
from towline.v1.admin_service_pb2 import (
    Durability,
    Figures,
    ListQueuesRequest,
    ListWorkersRequest,
    PurgeQueueRequest,
    ResetStatsRequest,
    StatsRequest,
    StatsResponse,
    StopWorkerRequest,
    Timing,
    Totals,
)
from towline.v1.dead_letter_service_pb2 import DeadFilter, DeadSelection, RequeueDeadRequest
from towline.v1.job_pb2 import Job, Lease
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    HeartbeatRequest,
    Nack,
    NackRequest,
    PushRequest,
    QueueChoice,
    Release,
    ReserveRequest,
    WorkerDirective,
)
from towline_broker.domain.time import MINUTE, SECOND
from towline_broker.server.serving import VERSION


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def push(calls: Calls, number: int = 1, **fields: Any) -> None:
    jobs = [Job(**{"type": "T", "queue": "q", **fields}) for _ in range(number)]
    await calls.queue.Push(PushRequest(jobs=jobs))


async def reserve(calls: Calls, **fields: Any) -> Lease:
    request = ReserveRequest(queues=[QueueChoice(name="q")], **fields)
    lease: Lease = (await calls.queue.Reserve(request)).leases[0]
    return lease


async def ack(calls: Calls, lease: Lease) -> None:
    await calls.queue.Ack(AckRequest(acks=[Ack(lease_token=lease.lease_token)]))


async def nack(calls: Calls, lease: Lease, **action: Any) -> None:
    item = Nack(lease_token=lease.lease_token, **action)
    await calls.queue.Nack(NackRequest(nacks=[item]))


async def stats(calls: Calls, *queues: str) -> StatsResponse:
    answer: StatsResponse = await calls.admin.Stats(StatsRequest(queues=queues))
    return answer


def in_seconds(duration: Duration) -> float:
    return duration.ToNanoseconds() / 1_000_000_000


async def test_every_total_counts_what_it_says(calls: Calls, clock: ManualClock) -> None:
    await push(calls, 8)
    await push(calls, type="Late", delay=seconds(3600))
    await ack(calls, await reserve(calls))
    await nack(calls, await reserve(calls))
    await nack(calls, await reserve(calls), dead_letter=True)
    await nack(calls, await reserve(calls), dead_letter=True)
    await nack(calls, await reserve(calls), release=Release(delay=seconds(3600)))
    every = DeadSelection(filter=DeadFilter())
    await calls.dead.RequeueDead(RequeueDeadRequest(selection=every, limit=1))
    await reserve(calls, lease=seconds(5))
    await clock.advance(6 * SECOND)

    async def taken_back() -> bool:
        await clock.advance(0)  # what was set for a moment that has passed meanwhile
        return (await stats(calls)).total.totals.lease_expired == 1

    await until(taken_back, "the lease that ran out is counted")
    await calls.admin.PurgeQueue(PurgeQueueRequest(queue="q", limit=2))
    answer = await stats(calls)
    assert answer.total.totals == Totals(
        pushed=9,
        started=6,
        completed=1,
        failed=4,
        retried=2,
        released=1,
        dead_lettered=2,
        lease_expired=1,
        cancelled=2,
        requeued=1,
    )
    assert answer.total.success_rate == 0.2
    assert answer.total.failure_rate == 0.8
    (in_queue,) = answer.queues
    assert in_queue.figures.totals == answer.total.totals
    by_type = {entry.type: entry.figures.totals.pushed for entry in answer.types}
    assert by_type == {"Late": 1, "T": 8}


async def test_times_are_those_that_jobs_waited_and_ran(calls: Calls, clock: ManualClock) -> None:
    await push(calls, 100)
    await clock.advance(2 * SECOND)
    for elapsed in range(1, 101):
        lease = await reserve(calls, lease=seconds(3600))
        clock.not_before(clock.now() + elapsed * SECOND)
        await ack(calls, lease)
    total = (await stats(calls)).total
    assert (total.wait.count, total.processing.count) == (100, 100)
    assert in_seconds(total.processing.mean) == pytest.approx(50.5)
    assert in_seconds(total.processing.p50) == pytest.approx(50, rel=0.05)
    assert in_seconds(total.processing.p95) == pytest.approx(95, rel=0.05)
    assert in_seconds(total.processing.p99) == pytest.approx(99, rel=0.05)
    assert in_seconds(total.wait.p50) == pytest.approx(2 + sum(range(1, 51)), rel=0.05)
    (of_type,) = (await stats(calls)).types
    assert of_type.figures.processing == total.processing


async def test_the_age_of_the_oldest_ready_job(calls: Calls, clock: ManualClock) -> None:
    await push(calls)
    await clock.advance(7 * SECOND)
    await push(calls, queue="young")
    await push(calls, queue="late", delay=seconds(3600))
    answer = await stats(calls)
    ages = {entry.queue: entry.figures for entry in answer.queues}
    assert in_seconds(answer.total.oldest_ready_age) == 7
    assert in_seconds(ages["q"].oldest_ready_age) == 7
    assert in_seconds(ages["young"].oldest_ready_age) == 0
    assert not ages["late"].HasField("oldest_ready_age")
    assert not any(entry.figures.HasField("oldest_ready_age") for entry in answer.types)


async def test_what_has_not_happened_has_no_figure(calls: Calls) -> None:
    answer = await stats(calls)
    assert answer.total == Figures(
        depth=answer.total.depth, totals=Totals(), processing=Timing(), wait=Timing()
    )
    assert not answer.queues
    assert not answer.types


async def test_figures_can_be_had_for_some_queues(calls: Calls) -> None:
    await push(calls, 2)
    await push(calls, 3, queue="other", type="Other")
    answer = await stats(calls, "other")
    assert [entry.queue for entry in answer.queues] == ["other"]
    assert [entry.type for entry in answer.types] == ["Other"]
    assert answer.total.depth.ready == 3


async def test_a_reset_forgets_totals_and_times_but_no_depth(calls: Calls) -> None:
    await push(calls, 2)
    await ack(calls, await reserve(calls))
    await calls.admin.ResetStats(ResetStatsRequest())
    answer = await stats(calls)
    assert answer.total.totals == Totals()
    assert (answer.total.wait, answer.total.processing) == (Timing(), Timing())
    assert not answer.total.HasField("success_rate")
    assert answer.total.depth.ready == 1


async def test_the_broker_tells_of_itself(calls: Calls, clock: ManualClock, store: str) -> None:
    await clock.advance(90 * SECOND)
    await calls.queue.Heartbeat(HeartbeatRequest(worker_id="w"))
    broker = (await stats(calls)).broker
    durable = store != "memory:"
    assert broker.version == VERSION
    assert broker.driver == ("sqlite" if durable else "memory")
    assert broker.durability == (
        Durability.DURABILITY_DURABLE if durable else Durability.DURABILITY_NONE
    )
    assert broker.durability_note
    assert broker.workers == 1
    assert in_seconds(broker.uptime) == 90
    assert broker.started_at.ToMicroseconds() == START
    assert broker.store_time.ToMicroseconds() == START + 90 * SECOND


async def test_queues_tell_their_depth_pause_and_store(calls: Calls) -> None:
    await push(calls, 3)
    await push(calls, delay=seconds(3600))
    await nack(calls, await reserve(calls), dead_letter=True)
    await reserve(calls)
    (info,) = (await calls.admin.ListQueues(ListQueuesRequest())).queues
    depth = info.depth
    assert (depth.scheduled, depth.ready, depth.leased, depth.dead) == (1, 1, 1, 1)
    assert (info.name, info.paused, info.store) == ("q", False, "default")


async def test_a_worker_is_listed_with_what_it_does(calls: Calls, clock: ManualClock) -> None:
    await push(calls, 2)
    await reserve(calls, worker_id="w")
    await clock.advance(5 * SECOND)
    await calls.queue.Heartbeat(HeartbeatRequest(worker_id="w"))
    await calls.admin.StopWorker(
        StopWorkerRequest(worker_id="w", directive=WorkerDirective.WORKER_DIRECTIVE_QUIET)
    )
    (worker,) = (await calls.admin.ListWorkers(ListWorkersRequest())).workers
    assert (worker.worker_id, list(worker.queues), worker.leases) == ("w", ["q"], 1)
    assert worker.first_seen.ToMicroseconds() == START
    assert worker.last_seen.ToMicroseconds() == START + 5 * SECOND
    assert worker.directive == WorkerDirective.WORKER_DIRECTIVE_QUIET
    await clock.advance(MINUTE)
    assert not (await calls.admin.ListWorkers(ListWorkersRequest())).workers
