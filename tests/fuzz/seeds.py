"""Good requests of every method, to begin from."""

from google.protobuf.message import Message

from tests.support.calls import seconds
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import dead_letter_service_pb2 as dead
from towline.v1 import queue_service_pb2 as queue
from towline.v1.job_pb2 import (
    DEAD_REASON_REJECTED,
    JOB_VIEW_FULL,
    DelayList,
    ExponentialBackoff,
    Failure,
    Job,
    JobState,
    Progress,
    RetryPolicy,
)

#: So few that what is pushed is met again by what is reserved, listed and cancelled.
QUEUES = ("q", "r", "mail:out", "a.b-c_d")
TYPES = ("T", "billing.invoice")
IDS = tuple(f"0190a000-0000-7000-8000-{number:012x}" for number in range(40))
#: Tokens of leases that nobody has.
TOKENS = tuple(
    f"{queue}/{IDS[0]}/{grant}" for queue in QUEUES[:2] for grant in ("x", "AAAAAAAAAAAA")
)

ALL_STATES = [state for state in JobState.values() if state]


def jobs() -> list[Job]:
    """With every field set in one of them."""
    plain = [Job(id=job_id, queue=QUEUES[n % 4], type=TYPES[n % 2]) for n, job_id in enumerate(IDS)]
    full = Job(
        queue="q",
        type="T",
        payload=b'{"to":"a@b.c"}',
        content_type="application/json",
        headers={"traceparent": "00-1-2-03", "towline-name": "Hello"},
        priority=5,
        delay=seconds(1),
        retry=RetryPolicy(max_attempts=2, delays=DelayList(delays=[seconds(1), seconds(2.5)])),
        timeout=seconds(30),
        expires_in=seconds(60),
        retention=seconds(2),
        unique_key="invoice-1",
        unique_for=seconds(3),
    )
    backoff = ExponentialBackoff(initial=seconds(0.5), multiplier=2, max=seconds(9))
    other = Job(queue="r", type="T", retry=RetryPolicy(exponential=backoff, jitter=0.5))
    other.run_at.FromSeconds(1_800_000_002)
    return [*plain, full, other]


def openings() -> list[Message]:
    """First messages of Work."""
    choices = [queue.QueueChoice(name=name) for name in QUEUES]
    return [
        queue.WorkRequest(
            open=queue.WorkOpening(queues=choices, lease=seconds(1), worker_id="w1"), credits=5
        ),
        queue.WorkRequest(
            open=queue.WorkOpening(queues=choices[:1], session_id="again 1", held_tokens=TOKENS),
            sequence=1,
            credits=1,
        ),
    ]


def _messages(single: dict[str, list[Message]]) -> dict[str, list[Message]]:
    """Of streams, made of what single calls ask for."""
    pushes = [
        queue.StreamedPush(sequence=number, request=request)  # type: ignore[arg-type]  # a PushRequest
        for number, request in enumerate(single["Push"], 1)
    ]
    work = []
    for number, method in enumerate(("Ack", "Nack", "Heartbeat"), 1):
        for request in single[method]:
            message = queue.WorkRequest(sequence=number, credits=number)
            for field in ("acks", "nacks"):
                getattr(message, field).extend(getattr(request, field, ()))
            message.heartbeats.extend(getattr(request, "leases", ()))
            work.append(message)
    return {
        "PushStream": [
            *(queue.PushStreamRequest(pushes=[push]) for push in pushes),
            queue.PushStreamRequest(pushes=pushes),
        ],
        "Work": [
            *work,
            queue.WorkRequest(sequence=7, credits=3, withdraw=True),
            queue.WorkRequest(credits=1),
            queue.WorkRequest(sequence=8),
        ],
    }


def requests() -> dict[str, list[Message]]:
    """By the name of the method; of a stream, its messages."""
    single = _single_requests()
    return single | _messages(single)


def _single_requests() -> dict[str, list[Message]]:
    many = jobs()
    choices = [queue.QueueChoice(name=name, weight=n + 1) for n, name in enumerate(QUEUES)]
    filter_ = dead.DeadFilter(queue="q", type="T", reason=DEAD_REASON_REJECTED)
    filter_.dead_after.FromSeconds(1_700_000_000)
    filter_.dead_before.FromSeconds(1_900_000_000)
    by_id, by_filter = dead.DeadSelection(ids=IDS[:9]), dead.DeadSelection(filter=dead.DeadFilter())
    failure = Failure(type="ValueError", message="no", trace="at line 1")
    return {
        "Push": [
            queue.PushRequest(jobs=many),
            queue.PushRequest(jobs=many[-2:], allow_partial=True),
            *(queue.PushRequest(jobs=[job]) for job in many[-6:]),
            *(queue.PushRequest(jobs=[Job(type="T", queue=name)] * 3) for name in QUEUES),
        ],
        "GetJob": [queue.GetJobRequest(id=IDS[0]), queue.GetJobRequest(id=IDS[1], wait=seconds(1))],
        "ListJobs": [
            queue.ListJobsRequest(),
            queue.ListJobsRequest(queue="q", states=ALL_STATES, page_size=3, view=JOB_VIEW_FULL),
        ],
        "CancelJob": [queue.CancelJobRequest(ids=IDS[:5]), queue.CancelJobRequest(ids=IDS[:1])],
        "Reserve": [
            queue.ReserveRequest(queues=choices, max_jobs=5, lease=seconds(1), worker_id="w1"),
            queue.ReserveRequest(queues=[queue.QueueChoice(name="q")], wait=seconds(1)),
            queue.ReserveRequest(queues=[queue.QueueChoice(name="r")], request_id="again 1"),
        ],
        "Ack": [
            queue.AckRequest(acks=[queue.Ack(lease_token=t, result=b"{}") for t in TOKENS]),
            queue.AckRequest(acks=[queue.Ack(lease_token=TOKENS[0])]),
        ],
        "Nack": [
            queue.NackRequest(nacks=[queue.Nack(lease_token=t, failure=failure) for t in TOKENS]),
            queue.NackRequest(nacks=[queue.Nack(lease_token=TOKENS[0], retry_after=seconds(1))]),
            queue.NackRequest(nacks=[queue.Nack(lease_token=TOKENS[0], dead_letter=True)]),
            queue.NackRequest(
                nacks=[queue.Nack(lease_token=TOKENS[1], release=queue.Release(delay=seconds(1)))]
            ),
        ],
        "Heartbeat": [
            queue.HeartbeatRequest(
                worker_id="w1",
                leases=[
                    queue.LeaseHeartbeat(
                        lease_token=token,
                        extend=seconds(2),
                        progress=Progress(fraction=0.5, message="half", checkpoint=b"c"),
                    )
                    for token in TOKENS
                ],
            ),
            queue.HeartbeatRequest(worker_id="w2"),
        ],
        "ListDead": [
            dead.ListDeadRequest(),
            dead.ListDeadRequest(filter=filter_, page_size=2, view=JOB_VIEW_FULL),
        ],
        "RequeueDead": [
            dead.RequeueDeadRequest(selection=by_id),
            dead.RequeueDeadRequest(selection=by_filter, limit=3),
            dead.RequeueDeadRequest(selection=by_filter, dry_run=True),
        ],
        "DiscardDead": [
            dead.DiscardDeadRequest(selection=by_id, dry_run=True),
            dead.DiscardDeadRequest(selection=by_filter, limit=1),
        ],
        "Stats": [admin.StatsRequest(), admin.StatsRequest(queues=QUEUES)],
        "ResetStats": [admin.ResetStatsRequest()],
        "ListQueues": [admin.ListQueuesRequest()],
        "PauseQueue": [admin.PauseQueueRequest(queue="mail:out")],
        "ResumeQueue": [admin.ResumeQueueRequest(queue="mail:out")],
        "PurgeQueue": [
            admin.PurgeQueueRequest(queue="r", limit=10),
            admin.PurgeQueueRequest(queue="q", dry_run=True),
        ],
        "MoveQueue": [admin.MoveQueueRequest(queue="r", store="default", limit=10)],
        "ListWorkers": [admin.ListWorkersRequest()],
        "StopWorker": [
            admin.StopWorkerRequest(worker_id="w1", directive=queue.WORKER_DIRECTIVE_QUIET)
        ],
    }
