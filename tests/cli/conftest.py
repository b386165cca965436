"""A real broker process, and the command run against it in this process."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.broker_process import BrokerProcess
from towline import Client, JobRequest
from towline.cli.app import run
from towline.v1 import job_pb2
from towline.v1 import queue_service_pb2 as pb
from towline.v1.queue_service_pb2_grpc import QueueServiceStub


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker process on a new SQLite store."""
    folder = tmp_path_factory.mktemp("broker")
    with BrokerProcess(f"sqlite:///{folder / 'jobs.db'}", folder=folder) as broker:
        yield broker.address


@dataclass(frozen=True)
class Done:
    """How one command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Command:
    """Runs `towline` as if it was typed, with standard input that is no terminal."""

    monkeypatch: pytest.MonkeyPatch

    def __call__(self, *arguments: str, stdin: str = "") -> Done:
        out, err = io.StringIO(), io.StringIO()
        with self.monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = run(arguments)
        return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture
def towline(monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "80")
    return Command(monkeypatch)


@dataclass(frozen=True)
class Line:
    """A queue of the running test, with its producer and its worker."""

    queue: str
    client: Client
    stub: QueueServiceStub

    def push(self, count: int = 1, **options: Any) -> list[str]:
        """Store jobs; return their ids."""
        return [
            self.client.dispatch("Stack", {"n": n}, queue=self.queue, **options).id
            for n in range(count)
        ]

    def push_batch(self, count: int) -> None:
        """Store many jobs in few calls."""
        self.client.dispatch_batch(
            JobRequest("Stack", {"n": n}, queue=self.queue) for n in range(count)
        )

    def reserve(self, count: int = 1, worker_id: str = "") -> list[str]:
        """Lease jobs; return the tokens."""
        request = pb.ReserveRequest(
            queues=[pb.QueueChoice(name=self.queue)], max_jobs=count, worker_id=worker_id
        )
        leases = self.stub.Reserve(request, timeout=10).leases
        assert len(leases) == count
        return [lease.lease_token for lease in leases]

    def succeed(self, count: int = 1, result: bytes = b'{"sum":3}') -> None:
        acks = [pb.Ack(lease_token=token, result=result) for token in self.reserve(count)]
        self.stub.Ack(pb.AckRequest(acks=acks), timeout=10)

    def bury(self, count: int = 1, **options: Any) -> list[str]:
        """Store jobs and send them to the dead-letter queue; return their ids."""
        ids = self.push(count, **options)
        self.reject(count)
        return ids

    def reject(self, count: int) -> None:
        """Send waiting jobs to the dead-letter queue."""
        failure = job_pb2.Failure(
            type="ValueError",
            message="no such\x1b[2J crate",
            trace="Traceback:\n  line one\n  line two",
        )
        nacks = [
            pb.Nack(lease_token=token, failure=failure, dead_letter=True)
            for token in self.reserve(count)
        ]
        self.stub.Nack(pb.NackRequest(nacks=nacks), timeout=10)


@pytest.fixture
def line(
    address: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Line]:
    """A queue with the name of the test, on the broker that TOWLINE_URL names."""
    monkeypatch.setenv("TOWLINE_URL", address)
    name = request.node.name.partition("[")[0][:60]
    with Client(address) as client:
        yield Line(f"{name}-{time.monotonic_ns()}", client, QueueServiceStub(client.channel))
