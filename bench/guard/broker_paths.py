"""The broker's hot paths: Push, Reserve, Ack, Heartbeat and Nack, one call at a time, and streams,
one message at a time, as they come in over gRPC; and calls of many callers with a job each, which
a store that is to be waited for is given as one.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from bench.guard.counter import Counter, Taken
from bench.messages import QUEUE, SERVICE, Unary, new_job
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Failure
from towline.v1.queue_service_pb2_grpc import QueueServiceStub
from towline_broker.server.configuration.http_settings import HttpSettings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import running_broker
from towline_broker.services.limits import Limits
from towline_broker.services.queue_service import QueueService

STORES = ("memory", "file", "sqlite")
#: Those that are given calls together: not the one that answers at once.
JOINED = ("file", "sqlite")
#: Calls of a round, by how many jobs each has.
CALLS = {1: 20, 100: 3}
#: Messages on a stream.
MESSAGES = 20
#: Calls that come together.
CALLERS = 64
#: Seconds until a job is tried again, so that none comes back while others are counted.
LATER = 3600
ROUNDS = 3
PAYLOAD = 250


async def count(counter: Counter, store: str) -> dict[str, float]:
    """What each verb takes per job, by ``store verb batch``: the least of some rounds."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            store=_url(store, Path(folder)),
            listen="127.0.0.1:0",
            http=HttpSettings(listen="off"),
        )
        with counter.counting():
            async with (
                running_broker(settings) as server,
                grpc.aio.insecure_channel(str(server.address)) as channel,
            ):
                verbs, streams = Verbs(counter, channel), Streams(counter, channel)
                found: dict[str, float] = {}
                for batch, calls in CALLS.items():
                    rounds = [await verbs.round(batch) for _ in range(ROUNDS + 1)][1:]
                    found |= _least(f"{store} {{}} {batch}", rounds, batch * calls)
                rounds = [await streams.round() for _ in range(ROUNDS + 1)][1:]
                found |= _least(f"{store} {{}}", rounds, MESSAGES)
                # Behind the others, as they leave jobs in the store.
                for batch, calls in CALLS.items():
                    rounds = [await verbs.unfinished(batch) for _ in range(ROUNDS + 1)][1:]
                    found |= _least(f"{store} {{}} {batch}", rounds, batch * calls)
                if store in JOINED:
                    joined = Joined(counter, channel, QueueService(server.broker, Limits()))
                    rounds = [await joined.round() for _ in range(ROUNDS + 1)][1:]
                    found |= _least(f"{store} joined {{}}", rounds, CALLERS)
                return found


def _least(name: str, rounds: Sequence[Mapping[str, Taken]], jobs: int) -> dict[str, float]:
    """Per job, the least of the rounds."""
    found = {}
    for verb in rounds[0]:
        instructions = min(each[verb].instructions for each in rounds)
        steps = min(each[verb].sqlite_steps for each in rounds)
        found[name.format(verb)] = instructions / jobs
        if steps:
            found[f"{name.format(verb)}, steps of SQLite"] = steps / jobs
    return found


def _url(store: str, folder: Path) -> str:
    return {"memory": "memory:", "file": f"file:///{folder}/jobs"}.get(
        store, f"sqlite:///{folder}/jobs.db"
    )


class Verbs:
    """Calls with ready-made bytes, so that nothing of the client is counted."""

    def __init__(self, counter: Counter, channel: grpc.aio.Channel) -> None:
        self._counter = counter
        self._push: Unary = channel.unary_unary(f"{SERVICE}/Push")
        self._reserve: Unary = channel.unary_unary(f"{SERVICE}/Reserve")
        self._ack: Unary = channel.unary_unary(f"{SERVICE}/Ack")
        self._heartbeat: Unary = channel.unary_unary(f"{SERVICE}/Heartbeat")
        self._nack: Unary = channel.unary_unary(f"{SERVICE}/Nack")

    async def round(self, batch: int) -> dict[str, Taken]:
        """What each verb took in one round of calls."""
        taken = {}
        pushes = [_push(batch) for _ in range(CALLS[batch])]
        taken["Push"], _ = await self._calls(self._push, pushes)
        taken["Reserve"], answers = await self._calls(
            self._reserve, [_reserve(batch)] * len(pushes)
        )
        acks = [_acks(_tokens(answer, batch)) for answer in answers]
        taken["Ack"], _ = await self._calls(self._ack, acks)
        return taken

    async def unfinished(self, batch: int) -> dict[str, Taken]:
        """The same of jobs that last, and fail."""
        taken = {}
        pushes = [_push(batch) for _ in range(CALLS[batch])]
        await self._calls(self._push, pushes)
        _, answers = await self._calls(self._reserve, [_reserve(batch)] * len(pushes))
        tokens = [_tokens(answer, batch) for answer in answers]
        taken["Heartbeat"], answers = await self._calls(
            self._heartbeat, [_heartbeats(each) for each in tokens]
        )
        for answer in answers:
            _check(pb.HeartbeatResponse.FromString(answer).results)
        taken["Nack"], answers = await self._calls(self._nack, [_nacks(each) for each in tokens])
        for answer in answers:
            _check(pb.NackResponse.FromString(answer).results)
        return taken

    async def _calls(self, call: Unary, requests: Sequence[bytes]) -> tuple[Taken, list[bytes]]:
        before = self._counter.taken
        answers = [await call(request) for request in requests]
        return self._counter.taken.since(before), answers


class Streams:
    """PushStream and Work, a job a message, each answered before the next."""

    def __init__(self, counter: Counter, channel: grpc.aio.Channel) -> None:
        self._counter = counter
        stub = QueueServiceStub(channel)
        self._push_stream: Any = stub.PushStream
        self._work: Any = stub.Work

    async def round(self) -> dict[str, Taken]:
        return {"PushStream": await self._pushed(), "Work": await self._worked()}

    async def _pushed(self) -> Taken:
        call = self._push_stream()
        before = self._counter.taken
        for sequence in range(1, MESSAGES + 2):
            push = pb.StreamedPush(
                sequence=sequence, request=pb.PushRequest(jobs=[new_job(PAYLOAD)])
            )
            await call.write(pb.PushStreamRequest(pushes=[push]))
            answer = await call.read()
            assert answer.results[0].WhichOneof("outcome") == "response", answer
            if sequence == 1:  # with what opening a stream takes
                before = self._counter.taken
        taken = self._counter.taken.since(before)
        await call.done_writing()
        return taken

    async def _worked(self) -> Taken:
        """Each message acknowledges a job and asks for the next."""
        call = self._work()
        opening = pb.WorkOpening(queues=[pb.QueueChoice(name=QUEUE)], worker_id="worker")
        await call.write(pb.WorkRequest(open=opening, credits=1))
        lease = (await call.read()).leases[0]
        before = taken = self._counter.taken
        for sequence in range(1, MESSAGES + 2):
            last = sequence == MESSAGES + 1
            if last:
                taken = self._counter.taken.since(before)
            ack = pb.Ack(lease_token=lease.lease_token)
            await call.write(pb.WorkRequest(sequence=sequence, acks=[ack], credits=int(not last)))
            answers = pb.WorkResponse()
            while not (answers.results and (answers.leases or last)):
                answers.MergeFrom(await call.read())
            if not last:
                lease = answers.leases[0]
        await call.done_writing()
        return taken


class Joined:
    """Calls that come in the same turn of the event loop.

    Not over gRPC, which hands them over in as many turns as it happens to: so they are counted from
    the bytes of a request to those of its reply.
    """

    def __init__(self, counter: Counter, channel: grpc.aio.Channel, service: QueueService) -> None:
        self._counter = counter
        self._reserve: Unary = channel.unary_unary(f"{SERVICE}/Reserve")
        self._pushes, self._acks = service.pushes, service.acks

    async def round(self) -> dict[str, Taken]:
        taken = {}
        taken["Push"] = await self._together(self._pushed, [_push(1) for _ in range(CALLERS)])
        tokens = _tokens(await self._reserve(_reserve(CALLERS)), CALLERS)
        taken["Ack"] = await self._together(self._acked, [_acks([token]) for token in tokens])
        return taken

    async def _together(
        self, call: Callable[[bytes], Awaitable[None]], requests: Sequence[bytes]
    ) -> Taken:
        before = self._counter.taken
        await asyncio.gather(*map(call, requests))
        return self._counter.taken.since(before)

    async def _pushed(self, request: bytes) -> None:
        answer = (await self._pushes.answer(self._pushes.read(request))).raw
        assert answer

    async def _acked(self, request: bytes) -> None:
        answer = (await self._acks.answer(self._acks.read(request))).raw
        assert answer


def _push(batch: int) -> bytes:
    return pb.PushRequest(jobs=[new_job(PAYLOAD) for _ in range(batch)]).SerializeToString()


def _reserve(batch: int) -> bytes:
    return pb.ReserveRequest(
        queues=[pb.QueueChoice(name=QUEUE)], max_jobs=batch, worker_id="worker"
    ).SerializeToString()


def _tokens(reserved: bytes, batch: int) -> list[str]:
    leases = pb.ReserveResponse.FromString(reserved).leases
    assert len(leases) == batch
    return [lease.lease_token for lease in leases]


def _acks(tokens: Sequence[str]) -> bytes:
    acks = [pb.Ack(lease_token=token) for token in tokens]
    return pb.AckRequest(acks=acks).SerializeToString()


def _heartbeats(tokens: Sequence[str]) -> bytes:
    leases = [pb.LeaseHeartbeat(lease_token=token) for token in tokens]
    return pb.HeartbeatRequest(worker_id="worker", leases=leases).SerializeToString()


def _nacks(tokens: Sequence[str]) -> bytes:
    failure = Failure(type="ValueError", message="no such address", trace="x" * PAYLOAD)
    nacks = [
        pb.Nack(lease_token=token, failure=failure, retry_after=Duration(seconds=LATER))
        for token in tokens
    ]
    return pb.NackRequest(nacks=nacks).SerializeToString()


def _check(results: Iterable[Any]) -> None:
    """A refusal would take less."""
    assert all(result.outcome == pb.LEASE_OUTCOME_OK for result in results), results
