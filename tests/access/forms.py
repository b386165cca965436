"""Every RPC of the contract in every form in which rights tell, and who may call it so.

Who may is written down here a second time, in words of the test: the broker's own table is what is
being tested.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import grpc

from tests.access.callers import MINE, OTHER, Caller, World
from towline.ids import uuid7
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import dead_letter_service_pb2 as dead
from towline.v1 import queue_service_pb2 as queue
from towline.v1.job_pb2 import Job
from towline_broker.core import tokens
from towline_broker.core.calls import DeadLetter, JobRequest, NackCall, QueueWeight, ReserveCall
from towline_broker.domain.identity import Identity
from towline_broker.domain.identity import Rights as BrokersRights

DENIED = 7


class Outcome(Enum):
    DONE = "done"
    #: PERMISSION_DENIED, for the call or for its item.
    REFUSED = "refused"
    #: As if what it is about did not exist.
    UNSEEN = "unseen"
    UNKNOWN = "unauthenticated"


Send = Callable[[World, Caller, str], Awaitable[Outcome]]
May = Callable[[Caller, str], bool]
ADMIN, ANY = ("admin",), ("push", "work", "admin")


@dataclass(frozen=True)
class Form:
    #: Such as "QueueService/Push".
    rpc: str
    name: str
    send: Send
    may: May
    #: Those who have one of these for some queue are not refused: they do not see.
    hides_from: tuple[str, ...] = ()
    #: It is about this queue or that; else about both or none.
    about_one: bool = True

    def expected(self, caller: Caller, name: str) -> Outcome:
        if caller.rights is None:
            return Outcome.UNKNOWN
        if self.may(caller, name):
            return Outcome.DONE
        return Outcome.UNSEEN if caller.may_somewhere(*self.hides_from) else Outcome.REFUSED


async def outcome_of(form: Form, world: World, caller: Caller, name: str) -> Outcome:
    outcome = await _outcome(form, world, caller, name)
    if outcome is not Outcome.DONE:
        assert await world.standing() == world.before, f"{form} is {outcome}, and changed something"
    return outcome


async def _outcome(form: Form, world: World, caller: Caller, name: str) -> Outcome:
    try:
        return await form.send(world, caller, name)
    except grpc.aio.AioRpcError as error:
        match error.code():
            case grpc.StatusCode.PERMISSION_DENIED:
                return Outcome.REFUSED
            case grpc.StatusCode.UNAUTHENTICATED:
                return Outcome.UNKNOWN
            case grpc.StatusCode.NOT_FOUND:
                return Outcome.UNSEEN
        raise


async def ask(world: World, caller: Caller, service: str, rpc: str, request: Any) -> Any:
    """What the call is about is there by now."""
    world.before = await world.standing()
    return await getattr(getattr(caller.calls, service), rpc)(request, metadata=caller.metadata)


async def converse(world: World, caller: Caller, rpc: str, request: Any) -> Any:
    """The first answer of a stream to its first message."""
    world.before = await world.standing()
    while True:
        stream = getattr(caller.calls.queue, rpc)(metadata=caller.metadata)
        try:
            # A write that meets the end of the stream would hide why it was refused.
            await stream.initial_metadata()
            if not stream.done():
                await stream.write(request)
            reply = await stream.read()
            assert reply is not grpc.aio.EOF
            await stream.done_writing()
            assert await stream.code() is grpc.StatusCode.OK
            return reply
        except grpc.aio.AioRpcError as error:
            if error.details() != "Internal error from Core":
                raise
        finally:
            stream.cancel()


# What calls are about is made by way of the core, which asks nobody for rights.


async def pushed(world: World, name: str) -> str:
    job = Job(id=uuid7(), queue=name, type="T")
    request = JobRequest(id=job.id, queue=name, type="T", envelope=job.SerializeToString())
    await world.broker.jobs.push([request])
    return job.id


async def leased(world: World, name: str, holder: str = "") -> str:
    """The lease token. ``holder``: the name of the identity that is to hold it; empty: anybody."""
    await pushed(world, name)
    mark = Identity(holder, BrokersRights.of()).mark if holder else ""
    call = ReserveCall([QueueWeight(name)], holder=mark)
    (lease,) = await world.broker.leasing.reserve(call)
    return tokens.encode(lease.ref)


async def died(world: World, name: str) -> str:
    ref = tokens.decode(await leased(world, name))
    assert ref is not None
    await world.broker.settling.nack([NackCall(ref, DeadLetter())])
    return ref.job_id


async def works_for(world: World, *names: str) -> str:
    worker = f"worker-of-{'-and-'.join(names)}"
    choices = [QueueWeight(name) for name in names]
    await world.broker.leasing.reserve(ReserveCall(choices, worker_id=worker))
    return worker


# Each of these makes one call, and says what came of it.


def _per_item(error_code: int, done: bool) -> Outcome:
    if error_code == DENIED:
        return Outcome.REFUSED
    assert done, "neither refused nor done"
    return Outcome.DONE


def push(*names: str | None, partial: bool = False) -> Send:
    """None: the queue that the cell is about."""

    async def send(world: World, caller: Caller, name: str) -> Outcome:
        queues = [name if each is None else each for each in names]
        jobs = [Job(queue=each, type="T") for each in queues]
        request = queue.PushRequest(jobs=jobs, allow_partial=partial)
        reply = await ask(world, caller, "queue", "Push", request)
        result = reply.results[-1]
        return _per_item(result.error.code, result.outcome == queue.PUSH_OUTCOME_CREATED)

    return send


async def get_job(world: World, caller: Caller, name: str) -> Outcome:
    request = queue.GetJobRequest(id=await pushed(world, name))
    reply = await ask(world, caller, "queue", "GetJob", request)
    assert reply.job.job.queue == name
    return Outcome.DONE


async def cancel(world: World, caller: Caller, name: str) -> Outcome:
    request = queue.CancelJobRequest(ids=[await pushed(world, name)])
    reply = await ask(world, caller, "queue", "CancelJob", request)
    seen = reply.results[0].outcome == queue.CANCEL_OUTCOME_CANCELLED
    return Outcome.DONE if seen else Outcome.UNSEEN


def list_jobs(every: bool = False) -> Send:
    async def send(world: World, caller: Caller, name: str) -> Outcome:
        await pushed(world, name)
        request = queue.ListJobsRequest(queue="" if every else name, page_size=3)
        reply = await ask(world, caller, "queue", "ListJobs", request)
        assert reply.jobs
        assert every or {each.job.queue for each in reply.jobs} == {name}
        return Outcome.DONE

    return send


def reserve(*names: str | None) -> Send:
    async def send(world: World, caller: Caller, name: str) -> Outcome:
        queues = [name if each is None else each for each in names]
        for each in queues:
            await pushed(world, each)
        choices = [queue.QueueChoice(name=each) for each in queues]
        request = queue.ReserveRequest(queues=choices)
        reply = await ask(world, caller, "queue", "Reserve", request)
        assert {each.job.queue for each in reply.leases} <= set(queues)
        assert reply.leases
        return Outcome.DONE

    return send


def _held(whose: str, caller: Caller) -> str:
    return {"own": caller.identity or "token:x", "another's": "token:somebody", "nobody's": ""}[
        whose
    ]


def on_lease(rpc: str, whose: str, request_of: Callable[[str], Any]) -> Send:
    """``request_of``: by the lease token."""

    async def send(world: World, caller: Caller, name: str) -> Outcome:
        token = await leased(world, name, _held(whose, caller))
        reply = await ask(world, caller, "queue", rpc, request_of(token))
        result = reply.results[0]
        return _per_item(result.error.code, result.outcome == queue.LEASE_OUTCOME_OK)

    return send


def ack(whose: str) -> Send:
    return on_lease(
        "Ack", whose, lambda token: queue.AckRequest(acks=[queue.Ack(lease_token=token)])
    )


def nack(whose: str) -> Send:
    return on_lease(
        "Nack", whose, lambda token: queue.NackRequest(nacks=[queue.Nack(lease_token=token)])
    )


def heartbeat(whose: str) -> Send:
    def request_of(token: str) -> queue.HeartbeatRequest:
        return queue.HeartbeatRequest(leases=[queue.LeaseHeartbeat(lease_token=token)])

    return on_lease("Heartbeat", whose, request_of)


async def push_over_a_stream(world: World, caller: Caller, name: str) -> Outcome:
    push = queue.PushRequest(jobs=[Job(queue=name, type="T")])
    request = queue.PushStreamRequest(pushes=[queue.StreamedPush(sequence=7, request=push)])
    reply = await converse(world, caller, "PushStream", request)
    (result,) = reply.results
    return _per_item(result.error.code, bool(result.response.results))


async def work_over_a_stream(world: World, caller: Caller, name: str) -> Outcome:
    await pushed(world, name)
    opening = queue.WorkOpening(queues=[queue.QueueChoice(name=name)])
    request = queue.WorkRequest(open=opening, credits=1)
    reply = await converse(world, caller, "Work", request)
    assert [lease.job.queue for lease in reply.leases] == [name]
    return Outcome.DONE


def settle_over_a_stream(field: str, kind: type[Any], whose: str) -> Send:
    """Opened for a queue for which the caller may work, if there is one."""

    async def send(world: World, caller: Caller, name: str) -> Outcome:
        token = await leased(world, name, _held(whose, caller))
        choice = queue.QueueChoice(name=MINE if caller.may(MINE, "work") else OTHER)
        items: Any = {field: [kind(lease_token=token)]}
        request = queue.WorkRequest(open=queue.WorkOpening(queues=[choice]), sequence=7, **items)
        reply = await converse(world, caller, "Work", request)
        (answer,) = getattr(reply.results[0], field)
        return _per_item(answer.error.code, answer.outcome == queue.LEASE_OUTCOME_OK)

    return send


async def idle_heartbeat(world: World, caller: Caller, _: str) -> Outcome:
    await ask(world, caller, "queue", "Heartbeat", queue.HeartbeatRequest())
    return Outcome.DONE


def list_dead(every: bool = False) -> Send:
    async def send(world: World, caller: Caller, name: str) -> Outcome:
        await died(world, name)
        chosen = dead.DeadFilter(queue="" if every else name)
        request = dead.ListDeadRequest(filter=chosen, page_size=3)
        reply = await ask(world, caller, "dead", "ListDead", request)
        assert reply.jobs
        assert every or {each.job.queue for each in reply.jobs} == {name}
        return Outcome.DONE

    return send


def on_dead(rpc: str, by: str) -> Send:
    async def send(world: World, caller: Caller, name: str) -> Outcome:
        job_id = await died(world, name)
        selection = {
            "id": dead.DeadSelection(ids=[job_id]),
            "queue": dead.DeadSelection(filter=dead.DeadFilter(queue=name)),
            "type": dead.DeadSelection(filter=dead.DeadFilter(type="T")),
        }[by]
        kind = dead.RequeueDeadRequest if rpc == "RequeueDead" else dead.DiscardDeadRequest
        reply = await ask(world, caller, "dead", rpc, kind(selection=selection))
        return Outcome.DONE if reply.matched else Outcome.UNSEEN

    return send


def stats(named: bool) -> Send:
    async def send(world: World, caller: Caller, name: str) -> Outcome:
        await pushed(world, name)
        request = admin.StatsRequest(queues=[name] if named else [])
        reply = await ask(world, caller, "admin", "Stats", request)
        told = {figures.queue for figures in reply.queues}
        assert reply.total.totals.pushed == sum(q.figures.totals.pushed for q in reply.queues)
        return Outcome.DONE if name in told else Outcome.UNSEEN

    return send


async def list_queues(world: World, caller: Caller, name: str) -> Outcome:
    await pushed(world, name)
    reply = await ask(world, caller, "admin", "ListQueues", admin.ListQueuesRequest())
    return Outcome.DONE if name in {each.name for each in reply.queues} else Outcome.UNSEEN


async def list_workers(world: World, caller: Caller, name: str) -> Outcome:
    worker = await works_for(world, name)
    request = admin.ListWorkersRequest()
    reply = await ask(world, caller, "admin", "ListWorkers", request)
    told = {queue for each in reply.workers for queue in each.queues}
    seen = worker in {each.worker_id for each in reply.workers}
    assert seen == (name in told)
    return Outcome.DONE if seen else Outcome.UNSEEN


def stop_worker(*names: str | None) -> Send:
    async def send(world: World, caller: Caller, name: str) -> Outcome:
        worker = await works_for(world, *(name if each is None else each for each in names))
        request = admin.StopWorkerRequest(worker_id=worker)
        await ask(world, caller, "admin", "StopWorker", request)
        return Outcome.DONE

    return send


def operate(rpc: str, request_of: Callable[[str], Any]) -> Send:
    async def send(world: World, caller: Caller, name: str) -> Outcome:
        await pushed(world, name)
        await ask(world, caller, "admin", rpc, request_of(name))
        await world.broker.operating.resume(name)
        return Outcome.DONE

    return send


def for_it(*rights: str) -> May:
    return lambda caller, name: caller.may(name, *rights)


def for_all(*rights: str) -> May:
    return lambda caller, _: caller.may_everywhere(*rights)


def for_some(*rights: str) -> May:
    return lambda caller, _: caller.may_somewhere(*rights)


def for_these(right: str, *names: str) -> May:
    return lambda caller, _: all(caller.may(name, right) for name in names)


def never(_: Caller, __: str) -> bool:
    return False


QUEUES, DEAD, OPERATING = "QueueService/", "DeadLetterService/", "AdminService/"

FORMS: Sequence[Form] = (
    Form(QUEUES + "Push", "one job", push(None), for_it("push")),
    Form(QUEUES + "Push", "all or none of two queues", push(MINE, OTHER),
         for_these("push", MINE, OTHER), about_one=False),
    Form(QUEUES + "Push", "to no queue in particular", push(""), for_these("push", "default"),
         about_one=False),
    Form(QUEUES + "Push", "what can be stored", push(None, partial=True), for_it("push")),
    Form(QUEUES + "GetJob", "", get_job, for_it(*ANY), ANY),
    Form(QUEUES + "ListJobs", "of a queue", list_jobs(), for_it("admin")),
    Form(QUEUES + "ListJobs", "of all", list_jobs(every=True), for_all("admin")),
    Form(QUEUES + "CancelJob", "", cancel, for_it("push", "admin"), ("push", "admin")),
    Form(QUEUES + "Reserve", "from one", reserve(None), for_it("work")),
    Form(QUEUES + "Reserve", "from two", reserve(MINE, OTHER), for_these("work", MINE, OTHER),
         about_one=False),
    Form(QUEUES + "Ack", "own lease", ack("own"), for_it("work")),
    Form(QUEUES + "Ack", "another's lease", ack("another's"), never),
    Form(QUEUES + "Ack", "nobody's lease", ack("nobody's"), for_it("work")),
    Form(QUEUES + "Nack", "own lease", nack("own"), for_it("work")),
    Form(QUEUES + "Nack", "another's lease", nack("another's"), never),
    Form(QUEUES + "Heartbeat", "own lease", heartbeat("own"), for_it("work")),
    Form(QUEUES + "Heartbeat", "another's lease", heartbeat("another's"), never),
    Form(QUEUES + "Heartbeat", "without leases", idle_heartbeat, for_some("work"),
         about_one=False),
    Form(QUEUES + "PushStream", "one job", push_over_a_stream, for_it("push")),
    Form(QUEUES + "Work", "of a queue", work_over_a_stream, for_it("work")),
    Form(QUEUES + "Work", "own lease acked", settle_over_a_stream("acks", queue.Ack, "own"),
         for_it("work")),
    Form(QUEUES + "Work", "another's lease acked",
         settle_over_a_stream("acks", queue.Ack, "another's"), never),
    Form(QUEUES + "Work", "another's lease nacked",
         settle_over_a_stream("nacks", queue.Nack, "another's"), never),
    Form(QUEUES + "Work", "another's lease prolonged",
         settle_over_a_stream("heartbeats", queue.LeaseHeartbeat, "another's"), never),
    Form(DEAD + "ListDead", "of a queue", list_dead(), for_it("admin")),
    Form(DEAD + "ListDead", "of all", list_dead(every=True), for_all("admin")),
    Form(DEAD + "RequeueDead", "by id", on_dead("RequeueDead", "id"), for_it("admin"), ADMIN),
    Form(DEAD + "RequeueDead", "of a queue", on_dead("RequeueDead", "queue"), for_it("admin")),
    Form(DEAD + "RequeueDead", "of all", on_dead("RequeueDead", "type"), for_all("admin")),
    Form(DEAD + "DiscardDead", "by id", on_dead("DiscardDead", "id"), for_it("admin"), ADMIN),
    Form(DEAD + "DiscardDead", "of a queue", on_dead("DiscardDead", "queue"), for_it("admin")),
    Form(DEAD + "DiscardDead", "of all", on_dead("DiscardDead", "type"), for_all("admin")),
    Form(OPERATING + "Stats", "of a queue", stats(named=True), for_it(*ANY)),
    Form(OPERATING + "Stats", "of all", stats(named=False), for_it(*ANY), ANY),
    Form(OPERATING + "ListQueues", "", list_queues, for_it(*ANY), ANY),
    Form(OPERATING + "ResetStats", "", operate("ResetStats", lambda _: admin.ResetStatsRequest()),
         for_all("admin"), about_one=False),
    Form(OPERATING + "PauseQueue", "",
         operate("PauseQueue", lambda name: admin.PauseQueueRequest(queue=name)), for_it("admin")),
    Form(OPERATING + "ResumeQueue", "",
         operate("ResumeQueue", lambda name: admin.ResumeQueueRequest(queue=name)),
         for_it("admin")),
    Form(OPERATING + "PurgeQueue", "",
         operate("PurgeQueue", lambda name: admin.PurgeQueueRequest(queue=name)), for_it("admin")),
    Form(OPERATING + "MoveQueue", "",
         operate("MoveQueue", lambda name: admin.MoveQueueRequest(queue=name, store="default")),
         for_it("admin")),
    Form(OPERATING + "ListWorkers", "", list_workers, for_it("admin"), ADMIN),
    Form(OPERATING + "StopWorker", "of a queue", stop_worker(None), for_it("admin"), ADMIN),
    Form(OPERATING + "StopWorker", "of two queues", stop_worker(MINE, OTHER),
         for_these("admin", MINE, OTHER), about_one=False),
)  # fmt: skip
