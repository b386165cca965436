"""The broker's hot paths: Push, Reserve and Ack, one call at a time, and streams, one message at a
time, as they come in over gRPC."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from bench.guard.counter import Counter, Taken
from bench.messages import QUEUE, SERVICE, Unary, new_job
from towline.v1 import queue_service_pb2 as pb
from towline.v1.queue_service_pb2_grpc import QueueServiceStub
from towline_broker.server.configuration.http_settings import HttpSettings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import running_broker

STORES = ("memory", "file", "sqlite")
#: Calls of a round, by how many jobs each has.
CALLS = {1: 20, 100: 3}
#: Messages on a stream.
MESSAGES = 20
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
                return found | _least(f"{store} {{}}", rounds, MESSAGES)


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

    async def round(self, batch: int) -> dict[str, Taken]:
        """What each verb took in one round of calls."""
        calls = CALLS[batch]
        pushes = [
            pb.PushRequest(jobs=[new_job(PAYLOAD) for _ in range(batch)]).SerializeToString()
            for _ in range(calls)
        ]
        reserve = pb.ReserveRequest(
            queues=[pb.QueueChoice(name=QUEUE)], max_jobs=batch, worker_id="worker"
        ).SerializeToString()
        taken = {}
        taken["Push"], _ = await self._calls(self._push, pushes)
        taken["Reserve"], answers = await self._calls(self._reserve, [reserve] * calls)
        acks = [_acks(answer, batch) for answer in answers]
        taken["Ack"], _ = await self._calls(self._ack, acks)
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


def _acks(reserved: bytes, batch: int) -> bytes:
    leases = pb.ReserveResponse.FromString(reserved).leases
    assert len(leases) == batch
    return pb.AckRequest(
        acks=[pb.Ack(lease_token=lease.lease_token) for lease in leases]
    ).SerializeToString()
