"""Names of workers are what they say they are: each identity has workers of its own, and hears of
those only that serve queues of its own."""

import grpc

from tests.access.senders import Sender, Tokens
from tests.support.calls import Calls, failure_of
from towline.v1.admin_service_pb2 import ListWorkersRequest, StopWorkerRequest, WorkerInfo
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import (
    HeartbeatRequest,
    PushRequest,
    QueueChoice,
    ReserveRequest,
    WorkerDirective,
)

NONE, STOP = WorkerDirective.WORKER_DIRECTIVE_NONE, WorkerDirective.WORKER_DIRECTIVE_STOP
ID = "w1"


async def reserve(who: Sender, *queues: str, jobs: int = 1) -> None:
    choices = [QueueChoice(name=queue) for queue in queues]
    await who.Reserve(ReserveRequest(queues=choices, worker_id=ID, max_jobs=jobs))


async def heard(who: Sender) -> int:
    return int((await who.Heartbeat(HeartbeatRequest(worker_id=ID))).directive)


async def listed(who: Sender) -> list[WorkerInfo]:
    return list((await who.ListWorkers(ListWorkersRequest())).workers)


async def stop(who: Sender) -> None:
    await who.StopWorker(StopWorkerRequest(worker_id=ID))


async def test_who_takes_the_name_of_a_worker_stops_but_their_own(
    calls: Calls, tokens: Tokens
) -> None:
    victim = Sender(calls, tokens.make("victim", work=["emails"]))
    thief = Sender(calls, tokens.make("thief", work=["mine"], admin=["mine"]))
    await reserve(victim, "emails")
    await reserve(thief, "mine")
    await stop(thief)
    assert await heard(thief) == STOP
    assert await heard(victim) == NONE
    [theirs] = await listed(thief)
    assert list(theirs.queues) == ["mine"]


async def test_who_takes_the_name_of_a_worker_does_not_hear_what_it_is_told(
    calls: Calls, tokens: Tokens
) -> None:
    victim = Sender(calls, tokens.make("victim", work=["emails"]))
    thief = Sender(calls, tokens.make("thief", work=["*"]))
    operator = Sender(calls, tokens.make("operator", admin=["emails"]))
    assert await heard(thief) == NONE  # with heartbeats alone, as after a restart of the broker
    await reserve(victim, "emails")
    await stop(operator)
    assert await heard(victim) == STOP
    assert await heard(thief) == NONE


async def test_a_new_token_of_the_same_name_is_the_same_worker(
    calls: Calls, tokens: Tokens
) -> None:
    worker = Sender(calls, tokens.make("mailer", work=["emails"]))
    operator = Sender(calls, tokens.make("operator", admin=["*"]))
    await reserve(worker, "emails")
    await stop(operator)
    assert await heard(Sender(calls, tokens.make("mailer", work=["emails"]))) == STOP
    assert len(await listed(operator)) == 1


async def test_who_has_the_right_for_all_queues_stops_all_of_a_name(
    calls: Calls, tokens: Tokens
) -> None:
    workers = [Sender(calls, tokens.make(f"worker-{n}", work=["emails"])) for n in range(3)]
    for worker in workers:
        await reserve(worker, "emails")
    operator = Sender(calls, tokens.make("operator", admin=["*"]))
    assert [worker.worker_id for worker in await listed(operator)] == [ID] * 3
    await stop(operator)
    assert [await heard(worker) for worker in workers] == [STOP] * 3


async def test_a_worker_is_listed_without_what_is_out_of_sight(
    calls: Calls, tokens: Tokens
) -> None:
    producer = Sender(calls, tokens.make("producer", push=["*"]))
    for queue, count in (("emails", 1), ("bills", 2)):
        jobs = [Job(queue=queue, type="T") for _ in range(count)]
        await producer.Push(PushRequest(jobs=jobs))
    worker = Sender(calls, tokens.make("worker", work=["*"]))
    await reserve(worker, "emails", "bills", jobs=3)
    seen = {
        name: [(list(each.queues), each.leases) for each in await listed(operator)]
        for name, operator in {
            "all": Sender(calls, tokens.make("all", admin=["*"])),
            "some": Sender(calls, tokens.make("some", admin=["emails"])),
            "none": Sender(calls, tokens.make("none", admin=["other"])),
        }.items()
    }
    assert seen == {"all": [(["emails", "bills"], 3)], "some": [(["emails"], 1)], "none": []}
    some = Sender(calls, tokens.make("some", admin=["emails"]))
    failure = await failure_of(some.StopWorker(StopWorkerRequest(worker_id=ID)))
    assert failure.code is grpc.StatusCode.PERMISSION_DENIED
    await reserve(worker, "bills")  # of the other queue it still holds a lease
    assert [(list(each.queues), each.leases) for each in await listed(some)] == [([], 1)]
