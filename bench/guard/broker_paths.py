"""The broker's hot paths: Push, Reserve and Ack, as they come in over gRPC, one call at a time."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import grpc

from bench.guard.counter import Counter, Taken
from bench.messages import QUEUE, SERVICE, Unary, new_job
from towline.v1 import queue_service_pb2 as pb
from towline_broker.server.configuration.http_settings import HttpSettings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import running_broker

STORES = ("memory", "file", "sqlite")
#: Unarys of a round, by how many jobs each has.
CALLS = {1: 20, 100: 3}
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
                verbs = Verbs(counter, channel)
                found: dict[str, float] = {}
                for batch in CALLS:
                    rounds = [await verbs.round(batch) for _ in range(ROUNDS + 1)][1:]
                    for verb in rounds[0]:
                        least = [min(each) for each in zip(*(r[verb] for r in rounds), strict=True)]
                        instructions, steps = (one / (batch * CALLS[batch]) for one in least)
                        found[f"{store} {verb} {batch}"] = instructions
                        if steps:
                            found[f"{store} {verb} {batch}, steps of SQLite"] = steps
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


def _acks(reserved: bytes, batch: int) -> bytes:
    leases = pb.ReserveResponse.FromString(reserved).leases
    assert len(leases) == batch
    return pb.AckRequest(
        acks=[pb.Ack(lease_token=lease.lease_token) for lease in leases]
    ).SerializeToString()
