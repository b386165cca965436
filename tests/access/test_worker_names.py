"""Names of workers are what they say they are: to take another's gives nobody a right over it."""

import grpc

from tests.access.senders import Sender, Tokens
from tests.support.calls import Calls, failure_of
from towline.v1.admin_service_pb2 import ListWorkersRequest, StopWorkerRequest
from towline.v1.queue_service_pb2 import (
    HeartbeatRequest,
    QueueChoice,
    ReserveRequest,
    WorkerDirective,
)
from towline_broker.core.workers import MOST_HOLDERS


def reserve(queue: str) -> ReserveRequest:
    return ReserveRequest(queues=[QueueChoice(name=queue)], worker_id="w1")


async def test_who_takes_the_name_of_a_worker_cannot_stop_it(calls: Calls, tokens: Tokens) -> None:
    victim = Sender(calls, tokens.make("victim", work=["emails"]))
    thief = Sender(calls, tokens.make("thief", work=["mine"], admin=["mine"]))
    await victim.Reserve(reserve("emails"))
    await thief.Reserve(reserve("mine"))
    failure = await failure_of(thief.StopWorker(StopWorkerRequest(worker_id="w1")))
    assert failure.code is grpc.StatusCode.PERMISSION_DENIED
    heard = await victim.Heartbeat(HeartbeatRequest(worker_id="w1"))
    assert heard.directive == WorkerDirective.WORKER_DIRECTIVE_NONE


async def test_many_who_take_it_push_nobody_out(calls: Calls, tokens: Tokens) -> None:
    victim = Sender(calls, tokens.make("victim", work=["emails"]))
    await victim.Reserve(reserve("emails"))
    for number in range(2 * MOST_HOLDERS):
        thief = Sender(calls, tokens.make(f"thief-{number}", work=["mine"], admin=["mine"]))
        await thief.Reserve(reserve("mine"))
    operator = Sender(calls, tokens.make("operator", admin=["*"]))
    [worker] = (await operator.ListWorkers(ListWorkersRequest())).workers
    assert list(worker.queues) == ["emails", "mine"]
    await operator.StopWorker(StopWorkerRequest(worker_id="w1"))
    heard = await victim.Heartbeat(HeartbeatRequest(worker_id="w1"))
    assert heard.directive == WorkerDirective.WORKER_DIRECTIVE_STOP
