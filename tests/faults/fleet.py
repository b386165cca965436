"""Several brokers on one store, workers in processes of their own, and what all of them saw."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from tests.faults.fleet_worker import OPTIONS
from tests.faults.history import Delivery, History
from tests.faults.leases import Grant
from tests.faults.load import CALL_SECONDS, CREATED, QUEUE, until_answered
from towline.ids import uuid7
from towline.v1 import queue_service_pb2 as pb
from towline.v1 import queue_service_pb2_grpc as rpc
from towline.v1.job_pb2 import Job

BATCH = 100


class Fleet:
    """As a context manager it starts the workers, and kills those that are left at the end."""

    def __init__(self, addresses: Sequence[str], workers: int, folder: Path) -> None:
        self.history = History()
        self.failures: list[BaseException] = []
        self._target = "ipv4:" + ",".join(addresses)
        self._folder = folder
        self._count = workers
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for number in range(self._count):
            command = [sys.executable, "-m", "tests.faults.fleet_worker", self._target]
            with (self._folder / f"worker-{number}.err").open("wb") as errors:
                worker = subprocess.Popen([*command, str(self._diary(number))], stderr=errors)
            self.workers.append(worker)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()

    def push(self, jobs: int) -> threading.Thread:
        """Begins to push so many, in batches, each again with the same ids until it is answered."""
        thread = threading.Thread(target=self._push, args=(jobs,))
        thread.start()
        return thread

    def acked(self) -> dict[str, float]:
        """Id to the time at which an Ack first returned OK, as far as workers have told by now."""
        acked: dict[str, float] = {}
        for event in self._events("acked"):
            for job_id in event["ids"]:
                acked[job_id] = min(event["returned"], acked.get(job_id, event["returned"]))
        return acked

    def seen(self) -> tuple[History, list[Grant]]:
        """Everything, once nothing happens any more."""
        settling: dict[tuple[str, str], float] = {}
        grants: list[Grant] = []
        for number in range(self._count):
            for event in self._lines(number):
                if event["event"] == "settling":
                    for job_id in event["ids"]:
                        settling.setdefault((str(number), job_id), event["called"])
        for number in range(self._count):
            for event in self._lines(number):
                if event["event"] != "delivered":
                    continue
                called, returned = event["called"], event["returned"]
                self.history.record_deliveries(
                    [Delivery(job_id, attempt, called) for job_id, attempt, _ in event["jobs"]]
                )
                for job_id, attempt, remaining in event["jobs"]:
                    given_up = settling.get((str(number), job_id))
                    grants.append(Grant(job_id, attempt, called, returned, remaining, given_up))
        for job_id, returned in self.acked().items():
            self.history.record_acks([job_id], returned)
        return self.history, grants

    def _push(self, jobs: int) -> None:
        try:
            with grpc.insecure_channel(self._target, options=OPTIONS) as channel:
                stub = rpc.QueueServiceStub(channel)
                for _ in range(jobs // BATCH):
                    batch = [Job(id=uuid7(), queue=QUEUE, type="Load") for _ in range(BATCH)]
                    for job in batch:
                        job.retry.max_attempts = 1000
                    request = pb.PushRequest(jobs=batch)
                    response = until_answered(partial(stub.Push, request, timeout=CALL_SECONDS))
                    created = [r.job_id for r in response.results if r.outcome == CREATED]
                    self.history.record_push([job.id for job in batch], created)
        except BaseException as error:
            self.failures.append(error)

    def _events(self, kind: str) -> Iterator[dict[str, Any]]:
        for number in range(self._count):
            yield from (event for event in self._lines(number) if event["event"] == kind)

    def _lines(self, number: int) -> Iterator[dict[str, Any]]:
        diary = self._diary(number)
        if diary.exists():
            for line in diary.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    yield json.loads(line)

    def _diary(self, number: int) -> Path:
        return self._folder / f"worker-{number}.jsonl"
