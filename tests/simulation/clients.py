"""What producers, workers and operators do, and write down."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from tests.faults.harness import answers
from tests.faults.harness.history import (
    Beat,
    Call,
    Cancelled,
    Delivered,
    Discarded,
    Item,
    Outcome,
    Pushed,
    Requeued,
    Settled,
)
from tests.simulation.loop import Loop
from tests.simulation.network import Network
from tests.simulation.plan import Conditions, Kind, Operation, Plan
from tests.simulation.server import Refused
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import dead_letter_service_pb2 as dead
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import DelayList, Failure, Job, Lease, Progress, RetryPolicy

#: After these statuses nobody knows whether it was done.
_UNKNOWN = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL")
#: Of one call, in seconds.
TIMEOUT = 2.0
_TRIES = 4

#: In a rush, how long who gets no job waits for one, and when that comes; in seconds.
_RUSH_SECONDS, _RUSH_AT = 3.0, 0.05


@dataclass(slots=True)
class Shared:
    """What clients know of each other's doings: enough to get in each other's way."""

    history: list[Call] = field(default_factory=list)
    #: Ids that were pushed, perhaps in vain, with their queues.
    pushed: list[tuple[str, str]] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    #: Calls of PurgeQueue with their queues.
    purged: dict[Call, str] = field(default_factory=dict)

    def whole_history(self) -> list[Call]:
        """A purge names no jobs: it may have cancelled any that was ever pushed to its queue."""
        return [
            replace(call, items=self._cancelled(self.purged[call])) if call in self.purged else call
            for call in self.history
        ]

    def _cancelled(self, queue: str) -> tuple[Item, ...]:
        return tuple(Cancelled(job_id) for job_id, its in self.pushed if its == queue)


def duration(seconds: float) -> Duration:
    made = Duration()
    made.FromMilliseconds(round(seconds * 1_000))
    return made


class Client:
    """Does its operations one after the other."""

    def __init__(self, name: str, plan: Plan, loop: Loop, network: Network, shared: Shared) -> None:
        self.name = name
        self._plan = plan
        self._loop = loop
        self._network = network
        self._shared = shared

    @property
    def _conditions(self) -> Conditions:
        return self._plan.conditions

    async def run(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            await asyncio.sleep(operation.pause)
            rng = self._plan.rng_of(operation)
            match operation.kind:
                case Kind.PUSH:
                    await self._push(operation, rng)
                case Kind.WORK:
                    await self._work(operation, rng)
                case Kind.RUSH:
                    await self._rush(operation, rng)
                case Kind.STALE:
                    await self._settle_once_more(rng)
                case Kind.CANCEL:
                    await self._cancel(rng)
                case Kind.REQUEUE | Kind.DISCARD:
                    await self._handle_dead(operation.kind, rng)
                case Kind.WAIT_FOR_END:
                    await self._wait_for_end(rng)
                case _:
                    await self._operate(operation.kind, rng)

    # --- one call -----------------------------------------------------------------------------

    async def call(
        self,
        service: str,
        method: str,
        request: Any,
        asked: Sequence[Item] = (),
        told: Callable[[Any], Sequence[Item]] = lambda reply: (),
        *,
        timeout: float = TIMEOUT,
        patience: float | None = None,
    ) -> Any:
        """The reply, or None; written down either way."""
        called = self._loop.time()
        try:
            reply = await self._network.call(service, method, request, timeout, patience)
        except Refused as error:
            outcome = Outcome.UNKNOWN if error.code in _UNKNOWN else Outcome.FAILED
            items = tuple(asked) if outcome is Outcome.UNKNOWN else _without_effect(asked)
            self._note(method, called, outcome, items, error.code)
            return None
        self._note(method, called, Outcome.OK, tuple(told(reply)), "")
        return reply

    def _note(
        self, rpc: str, called: float, outcome: Outcome, items: tuple[Item, ...], error: str
    ) -> None:
        call = Call(self.name, rpc, called, self._loop.time(), outcome, items, error)
        self._shared.history.append(call)

    async def _until_told(self, rng: Random, *args: Any, **options: Any) -> Any:
        """The same call again and again, until it is answered or the client loses patience."""
        if rng.random() < self._conditions.vanishing:
            patience = rng.uniform(0, rng.choice((0.02, 0.3, 3.0)))
            return await self.call(*args, patience=patience, **options)
        reply = None
        for _ in range(_TRIES):
            reply = await self.call(*args, **options)
            if reply is not None or self._shared.history[-1].outcome is Outcome.FAILED:
                break
            await asyncio.sleep(rng.uniform(0.01, 0.5))
        return reply

    def _queue(self, rng: Random) -> str:
        return f"q{rng.randrange(self._conditions.queues)}"

    # --- producers ----------------------------------------------------------------------------

    async def _push(self, operation: Operation, rng: Random) -> None:
        queue = self._queue(rng)
        specs = [_job(operation, rng, queue, n) for n in range(rng.choice((1, 1, 2, 3, 5)))]
        conditions = self._conditions
        jobs = [_message(spec, rng, conditions.retention, conditions.payload) for spec in specs]
        request = pb.PushRequest(jobs=jobs, allow_partial=rng.random() < 0.2)
        self._shared.pushed += [(spec.job_id, queue) for spec in specs]

        def told(reply: pb.PushResponse) -> list[Pushed]:
            return [_answered(*pair) for pair in zip(specs, reply.results, strict=True)]

        await self._until_told(rng, "QueueService", "Push", request, specs, told)
        if rng.random() < 0.15:
            await self.call("QueueService", "Push", request, specs, told)

    async def _cancel(self, rng: Random) -> None:
        if not self._shared.pushed:
            return
        picks = rng.sample(self._shared.pushed, min(len(self._shared.pushed), rng.choice((1, 2))))
        ids = [job_id for job_id, _ in picks]

        def told(reply: pb.CancelJobResponse) -> list[Cancelled]:
            return [Cancelled(one.job_id, answers.CANCELS[one.outcome]) for one in reply.results]

        await self._until_told(
            rng,
            *("QueueService", "CancelJob", pb.CancelJobRequest(ids=ids)),
            [Cancelled(job_id) for job_id in ids],
            told,
        )

    async def _wait_for_end(self, rng: Random) -> None:
        if self._shared.pushed:
            job_id, _ = rng.choice(self._shared.pushed)
            request = pb.GetJobRequest(id=job_id, wait=duration(rng.uniform(0, 1)))
            await self.call("QueueService", "GetJob", request)

    # --- workers ------------------------------------------------------------------------------

    async def _work(self, operation: Operation, rng: Random) -> None:
        leases = await self._reserve(operation, rng)
        for lease in leases:
            await self._handle(lease, rng)

    async def _rush(self, operation: Operation, rng: Random) -> None:
        """A job comes at the very moment at which some Reserves come, too, and others, which have
        waited for it, are given up. One at least waits on, and nothing else happens."""

        async def wait(pause: float, patience: float | None) -> None:
            await asyncio.sleep(pause)
            request = pb.ReserveRequest(max_jobs=1, wait=duration(_RUSH_SECONDS))
            for queue in range(self._conditions.queues):
                request.queues.add(name=f"q{queue}")
            reply = await self.call(
                *("QueueService", "Reserve", request, (), _deliveries), patience=patience
            )
            for lease in reply.leases if reply is not None else ():
                await self._settle(lease, "ack", rng)

        async def push() -> None:
            await asyncio.sleep(_RUSH_AT)
            await self._push(operation, rng)

        waiting = [wait(0, None)]
        for _ in range(rng.randrange(1, 6)):
            about = max(0, rng.gauss(_RUSH_AT, 2 * self._conditions.delay))
            waiting.append(wait(0, about) if rng.random() < 0.5 else wait(about, None))
        rng.shuffle(waiting)
        await asyncio.gather(*waiting, push())

    async def drain(self, queues: Sequence[str]) -> None:
        """Takes what there is, waiting a little for it, and acknowledges it."""
        request = pb.ReserveRequest(
            queues=[pb.QueueChoice(name=queue) for queue in queues],
            max_jobs=10,
            wait=duration(1.0),
            lease=duration(5.0),
            worker_id=self.name,
        )
        reply = await self.call("QueueService", "Reserve", request, (), _deliveries, timeout=5.0)
        rng = Random(0)
        for lease in reply.leases if reply is not None else ():
            await self._settle(lease, "ack", rng)

    async def _reserve(self, operation: Operation, rng: Random) -> Sequence[Lease]:
        queues = [f"q{n}" for n in range(self._conditions.queues)]
        rng.shuffle(queues)
        request = pb.ReserveRequest(
            queues=[pb.QueueChoice(name=queue) for queue in queues],
            max_jobs=rng.choice((1, 1, 2, 5)),
            wait=duration(rng.choice((0, 0.2, 1.0, 10.0))),
            lease=duration(rng.choice((1.0, 1.0, 2.0, 5.0))),
            worker_id=self.name,
        )
        if rng.random() < 0.6:
            request.request_id = f"r{operation.number}"
        reply = await self._until_told(
            rng, "QueueService", "Reserve", request, (), _deliveries, timeout=TIMEOUT
        )
        leases = [] if reply is None else list(reply.leases)
        self._shared.leases += leases
        return leases

    async def _handle(self, lease: Lease, rng: Random) -> None:
        if rng.random() < 0.5:
            await asyncio.sleep(rng.expovariate(1 / rng.choice((0.01, 0.3, 1.5))))
        if rng.random() < 0.2:
            await self._beat(lease, rng)
        action = rng.choices(
            ("ack", "retry", "retry in", "reject", "release", "pause", "abandon"),
            (10, 3, 2, 2, 2, 1, 2),
        )[0]
        if action != "abandon":
            await self._settle(lease, action, rng)
            if rng.random() < 0.15:
                await self._settle(lease, action, rng)

    async def _settle(self, lease: Lease, action: str, rng: Random) -> None:
        token, delay = lease.lease_token, rng.choice((0.05, 0.5, 2.0))
        nack = pb.Nack(lease_token=token, failure=Failure(type="Error", message=action))
        match action:
            case "ack":
                item = Settled(lease.job.id, token, "ack")
            case "retry":
                # The policy of every job says at least so much.
                item = Settled(lease.job.id, token, "retry", _RETRY)
            case "retry in":
                item = Settled(lease.job.id, token, "retry", delay)
                nack.retry_after.CopyFrom(duration(delay))
            case "reject":
                item = Settled(lease.job.id, token, "reject")
                nack.dead_letter = True
            case "release":
                item = Settled(lease.job.id, token, "release", 0.0)
                nack.release.SetInParent()
            case _:
                item = Settled(lease.job.id, token, "release", delay)
                nack.release.delay.CopyFrom(duration(delay))

        def told(reply: pb.AckResponse | pb.NackResponse) -> list[Settled]:
            answer = answers.LEASES[reply.results[0].outcome]
            return [Settled(item.job_id, token, item.action, item.delay, answer)]

        if action == "ack":
            acks = pb.AckRequest(acks=[pb.Ack(lease_token=token, result=b"done")])
            await self._until_told(rng, "QueueService", "Ack", acks, [item], told)
        else:
            nacks = pb.NackRequest(nacks=[nack])
            await self._until_told(rng, "QueueService", "Nack", nacks, [item], told)

    async def _beat(self, lease: Lease, rng: Random) -> None:
        beat = pb.LeaseHeartbeat(lease_token=lease.lease_token)
        # Of one lease either always or never, so that none shortens what another has granted. And
        # not where a broker may start with a clock that is ahead: it gives the granted term only.
        if not self._conditions.wall_jumps and Random(lease.lease_token).random() < 0.5:
            beat.extend.CopyFrom(duration(7.0))
        if rng.random() < 0.5:
            beat.progress.CopyFrom(Progress(fraction=0.5, checkpoint=b"half"))
        request = pb.HeartbeatRequest(worker_id=self.name, leases=[beat])

        def told(reply: pb.HeartbeatResponse) -> list[Beat]:
            [result] = reply.results
            left = result.lease_remaining.ToMicroseconds() / 1e6
            return [Beat(lease.job.id, lease.lease_token, answers.LEASES[result.outcome], left)]

        asked = [Beat(lease.job.id, lease.lease_token)]
        await self.call("QueueService", "Heartbeat", request, asked, told)

    async def _settle_once_more(self, rng: Random) -> None:
        if self._shared.leases:
            lease = rng.choice(self._shared.leases[-6:])
            if rng.random() < 0.3:
                await self._beat(lease, rng)
            else:
                await self._settle(lease, rng.choice(("ack", "retry", "release", "reject")), rng)

    # --- operators ----------------------------------------------------------------------------

    async def _handle_dead(self, kind: Kind, rng: Random) -> None:
        listed = await self.call("DeadLetterService", "ListDead", dead.ListDeadRequest())
        if listed is None or not listed.jobs:
            return
        job_id = rng.choice(listed.jobs).job.id
        selection = dead.DeadSelection(ids=[job_id])
        if kind is Kind.REQUEUE:
            await self._until_told(
                rng,
                *("DeadLetterService", "RequeueDead"),
                dead.RequeueDeadRequest(selection=selection),
                [Requeued(job_id)],
                lambda reply: [Requeued(job_id, reply.requeued == 1)],
            )
        else:
            await self._until_told(
                rng,
                *("DeadLetterService", "DiscardDead"),
                dead.DiscardDeadRequest(selection=selection),
                [Discarded(job_id)],
                lambda reply: [Discarded(job_id, reply.discarded == 1)],
            )

    async def _operate(self, kind: Kind, rng: Random) -> None:
        queue = self._queue(rng)
        request: object
        match kind:
            case Kind.PAUSE:
                method, request = "PauseQueue", admin.PauseQueueRequest(queue=queue)
            case Kind.RESUME:
                method, request = "ResumeQueue", admin.ResumeQueueRequest(queue=queue)
            case _:
                method, request = "PurgeQueue", admin.PurgeQueueRequest(queue=queue, limit=3)
        await self.call("AdminService", method, request)
        if kind is Kind.PURGE:
            self._shared.purged[self._shared.history[-1]] = queue


#: What every job waits after a failure, in seconds.
_RETRY = 0.2
#: Some unique keys are held for so long, in seconds.
_HELD = 3.0


def _job(operation: Operation, rng: Random, queue: str, number: int) -> Pushed:
    unique = f"key-{rng.randrange(2)}" if rng.random() < 0.1 else ""
    return Pushed(
        job_id=str(UUID(int=rng.getrandbits(96) << 32 | operation.number << 8 | number)),
        queue=queue,
        priority=rng.choice((0, 0, 0, 1, 5)),
        delay=rng.choice((0.0, 0.0, 0.0, 0.0, 0.3, 2.0)),
        max_attempts=rng.choice((1, 2, 3, 3, 100)),
        expires=rng.choice((None, None, None, None, None, 0.5, 2.0)),
        unique_key=unique,
        unique_for=_HELD if unique and rng.random() < 0.5 else None,
    )


def _message(spec: Pushed, rng: Random, retention: float, payload: int) -> Job:
    job = Job(
        id=spec.job_id,
        queue=spec.queue,
        type=rng.choice(("A", "B")),
        payload=rng.randbytes(rng.choice((0, 10, payload))),
        priority=spec.priority,
        retry=RetryPolicy(
            max_attempts=spec.max_attempts, delays=DelayList(delays=[duration(_RETRY)])
        ),
        unique_key=spec.unique_key,
    )
    if retention:
        job.retention.CopyFrom(duration(retention))
    if spec.delay:
        job.delay.CopyFrom(duration(spec.delay))
    if spec.expires is not None:
        job.expires_in.CopyFrom(duration(spec.expires))
    if spec.unique_for is not None:
        job.unique_for.CopyFrom(duration(spec.unique_for))
    return job


def _answered(spec: Pushed, result: pb.PushResult) -> Pushed:
    answer = {
        pb.PushOutcome.PUSH_OUTCOME_CREATED: "created",
        pb.PushOutcome.PUSH_OUTCOME_EXISTING: "existing",
        pb.PushOutcome.PUSH_OUTCOME_REJECTED: "rejected",
    }[result.outcome]
    return replace(spec, answer=answer, stored_as=result.job_id)


def _without_effect(items: Sequence[Item]) -> tuple[Item, ...]:
    """Of a call that was refused: only pushes have anything to say."""
    return tuple(replace(one, answer="rejected") for one in items if isinstance(one, Pushed))


def _deliveries(reply: pb.ReserveResponse) -> list[Delivered]:
    return [
        Delivered(
            lease.job.id,
            lease.attempt,
            lease.lease_token,
            lease.lease_remaining.ToMicroseconds() / 1e6,
        )
        for lease in reply.leases
    ]
