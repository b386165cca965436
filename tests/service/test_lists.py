"""Lists come page by page, in one of two views, and never larger than a message."""

from typing import Any

import pytest

from tests.support.calls import Calls, calls_to, failure_of, seconds
from towline.ids import uuid7
from towline.v1.dead_letter_service_pb2 import (
    DeadFilter,
    DeadSelection,
    DiscardDeadRequest,
    ListDeadRequest,
    RequeueDeadRequest,
)
from towline.v1.job_pb2 import DeadReason, Failure, Job, JobState, JobView, Progress
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    CancelJobRequest,
    CancelOutcome,
    GetJobRequest,
    HeartbeatRequest,
    LeaseHeartbeat,
    ListJobsRequest,
    Nack,
    NackRequest,
    PushRequest,
    QueueChoice,
    ReserveRequest,
)
from towline_broker.server.configuration.settings import LimitSettings, Settings
from towline_broker.server.serving import running_broker
from towline_broker.services.limits import MIB

Q = [QueueChoice(name="q")]


async def push(calls: Calls, number: int, **fields: Any) -> list[str]:
    jobs = [Job(id=uuid7(), **{"type": "T", "queue": "q", **fields}) for _ in range(number)]
    await calls.queue.Push(PushRequest(jobs=jobs))
    return [job.id for job in jobs]


async def make_dead(calls: Calls, number: int, **fields: Any) -> list[str]:
    """In the order in which they died."""
    await push(calls, number, **fields)
    reply = await calls.queue.Reserve(ReserveRequest(queues=Q, max_jobs=number))
    for lease in reply.leases:
        nack = Nack(
            lease_token=lease.lease_token,
            dead_letter=True,
            failure=Failure(type="E", message="m", trace="t"),
        )
        await calls.queue.Nack(NackRequest(nacks=[nack]))
    return [lease.job.id for lease in reply.leases]


async def pages(method: Any, request: Any) -> list[list[str]]:
    """The ids on every page."""
    found = []
    while True:
        reply = await method(request)
        found.append([info.job.id for info in reply.jobs])
        if not reply.next_page_token:
            return found
        request.page_token = reply.next_page_token


def flat(found: list[list[str]]) -> list[str]:
    return [job_id for page in found for job_id in page]


async def test_jobs_are_listed_once_each_in_the_order_of_their_push(calls: Calls) -> None:
    ids = await push(calls, 25)
    found = await pages(calls.queue.ListJobs, ListJobsRequest(page_size=10))
    assert flat(found) == ids
    assert max(len(page) for page in found) == 10


async def test_a_list_keeps_to_its_filter(calls: Calls) -> None:
    first = await push(calls, 3, queue="a", type="X")
    second = await push(calls, 2, queue="b", type="X", delay=seconds(60))
    states = [JobState.JOB_STATE_SCHEDULED]
    assert flat(await pages(calls.queue.ListJobs, ListJobsRequest(queue="a"))) == first
    assert flat(await pages(calls.queue.ListJobs, ListJobsRequest(type="X"))) == first + second
    assert flat(await pages(calls.queue.ListJobs, ListJobsRequest(states=states))) == second
    assert flat(await pages(calls.queue.ListJobs, ListJobsRequest(type="none"))) == []


async def test_a_page_token_is_good_for_its_own_list_only(calls: Calls) -> None:
    await push(calls, 3)
    await make_dead(calls, 3)
    token = (await calls.queue.ListJobs(ListJobsRequest(page_size=1))).next_page_token
    assert token
    for request in (
        ListJobsRequest(page_token=token, queue="q"),
        ListJobsRequest(page_token=token, states=[JobState.JOB_STATE_DEAD]),
        ListJobsRequest(page_token=token[:-1] + "\N{SNOWMAN}"),
        ListJobsRequest(page_token=token + "9" * 1000),
    ):
        failure = await failure_of(calls.queue.ListJobs(request))
        assert list(failure.violations) == ["page_token"]
    failure = await failure_of(calls.dead.ListDead(ListDeadRequest(page_token=token)))
    assert list(failure.violations) == ["page_token"]


async def test_the_basic_view_leaves_out_what_is_large(calls: Calls) -> None:
    (job_id,) = await push(calls, 1, payload=b"p", headers={"h": "v"}, content_type="text/plain")
    token = (await calls.queue.Reserve(ReserveRequest(queues=Q))).leases[0].lease_token
    progress = Progress(fraction=0.5, message="half", checkpoint=b"c")
    beat = LeaseHeartbeat(lease_token=token, progress=progress)
    await calls.queue.Heartbeat(HeartbeatRequest(leases=[beat]))
    failure = Failure(type="E", message="m", trace="t")
    nack = Nack(lease_token=token, failure=failure, dead_letter=True)
    await calls.queue.Nack(NackRequest(nacks=[nack]))
    for view in (JobView.JOB_VIEW_UNSPECIFIED, JobView.JOB_VIEW_BASIC):
        for method, request in (
            (calls.queue.ListJobs, ListJobsRequest(view=view)),
            (calls.dead.ListDead, ListDeadRequest(view=view)),
        ):
            (info,) = (await method(request)).jobs
            assert (info.job.id, info.job.type, info.job.content_type) == (
                job_id,
                "T",
                "text/plain",
            )
            assert (info.job.payload, dict(info.job.headers)) == (b"", {})
            assert (info.last_failure.message, info.last_failure.trace) == ("m", "")
            assert (info.progress.message, info.progress.checkpoint) == ("half", b"")
    (info,) = (await calls.dead.ListDead(ListDeadRequest(view=JobView.JOB_VIEW_FULL))).jobs
    assert (info.job.payload, dict(info.job.headers)) == (b"p", {"h": "v"})
    assert (info.last_failure.trace, info.progress.checkpoint) == ("t", b"c")
    assert info.dead_reason == DeadReason.DEAD_REASON_REJECTED
    assert info.state == JobState.JOB_STATE_DEAD
    assert info.finished_at.ToNanoseconds() >= info.started_at.ToNanoseconds() > 0


@pytest.mark.parametrize(("length", "shown"), [(512, True), (513, False)])
async def test_the_basic_view_tells_the_display_name_unless_it_is_long(
    calls: Calls, length: int, shown: bool
) -> None:
    name = {"towline-display-name": "é" * (length // 2) + "x" * (length % 2)}
    await push(calls, 1, headers={"h": "v", **name})
    (info,) = (await calls.queue.ListJobs(ListJobsRequest())).jobs
    assert dict(info.job.headers) == (name if shown else {})


async def test_a_result_is_read_with_the_job_and_from_the_settle_memory(calls: Calls) -> None:
    for retention, payload in ((0, b""), (60, b"p")):
        (job_id,) = await push(calls, 1, payload=b"p", retention=seconds(retention))
        token = (await calls.queue.Reserve(ReserveRequest(queues=Q))).leases[0].lease_token
        await calls.queue.Ack(AckRequest(acks=[Ack(lease_token=token, result=b"r")]))
        job = (await calls.queue.GetJob(GetJobRequest(id=job_id))).job
        assert (job.state, job.result) == (JobState.JOB_STATE_SUCCEEDED, b"r")
        assert (job.job.id, job.job.queue, job.job.payload) == (job_id, "q", payload)


async def test_cancelling_answers_for_each_id_in_order(calls: Calls) -> None:
    waiting, other = await push(calls, 2)
    (dead,) = await make_dead(calls, 1, queue="q", priority=5)
    request = CancelJobRequest(ids=[dead, uuid7(), waiting, waiting])
    reply = await calls.queue.CancelJob(request)
    assert [result.job_id for result in reply.results] == list(request.ids)
    assert [result.outcome for result in reply.results] == [
        CancelOutcome.CANCEL_OUTCOME_ALREADY_ENDED,
        CancelOutcome.CANCEL_OUTCOME_NOT_FOUND,
        CancelOutcome.CANCEL_OUTCOME_CANCELLED,
        CancelOutcome.CANCEL_OUTCOME_CANCELLED,
    ]
    assert (await calls.queue.GetJob(GetJobRequest(id=other))).job.state == 2


async def test_dead_jobs_are_listed_counted_requeued_and_discarded(calls: Calls) -> None:
    ids = await make_dead(calls, 5)
    assert flat(await pages(calls.dead.ListDead, ListDeadRequest(page_size=2))) == ids
    every = DeadSelection(filter=DeadFilter())
    dry = await calls.dead.RequeueDead(RequeueDeadRequest(selection=every, dry_run=True, limit=2))
    assert (dry.matched, dry.requeued, dry.remaining) == (5, 0, 5)
    some = await calls.dead.RequeueDead(RequeueDeadRequest(selection=every, limit=2))
    assert (some.matched, some.requeued, some.remaining) == (5, 2, 3)
    named = DeadSelection(ids=[ids[2], ids[2], ids[0]])
    gone = await calls.dead.DiscardDead(DiscardDeadRequest(selection=named))
    assert (gone.matched, gone.discarded, gone.remaining) == (1, 1, 0)
    other = DeadSelection(filter=DeadFilter(reason=DeadReason.DEAD_REASON_EXPIRED))
    none = await calls.dead.DiscardDead(DiscardDeadRequest(selection=other))
    assert (none.matched, none.discarded, none.remaining) == (0, 0, 0)
    assert flat(await pages(calls.dead.ListDead, ListDeadRequest())) == ids[3:]


@pytest.mark.parametrize("view", [JobView.JOB_VIEW_BASIC, JobView.JOB_VIEW_FULL])
async def test_a_page_brings_no_more_jobs_than_fit_into_a_message(
    view: "JobView.ValueType", store: str
) -> None:
    limits = LimitSettings.model_validate({"message_bytes": "3 MiB"})
    settings = Settings(store=store, listen="127.0.0.1:0", limits=limits)
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        ids = [(await push(calls, 1, payload=b"x" * MIB))[0] for _ in range(7)]
        found = await pages(calls.queue.ListJobs, ListJobsRequest(view=view))
        assert flat(found) == ids
        most = 7 if view == JobView.JOB_VIEW_BASIC else 2
        assert max(len(page) for page in found) <= most
        for page_size in (1, 7):
            request = ListJobsRequest(view=view, page_size=page_size)
            assert (await calls.queue.ListJobs(request)).ByteSize() < 3 * MIB
