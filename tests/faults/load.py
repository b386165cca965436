"""Producers and workers that go on through every failure, and write down what they saw."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import grpc

from tests.faults.history import Delivery, History
from towline.ids import uuid7
from towline.v1 import queue_service_pb2 as pb
from towline.v1 import queue_service_pb2_grpc as rpc
from towline.v1.job_pb2 import Job

QUEUE = "load"
BATCH = 20
LEASE_SECONDS = 5
CALL_SECONDS = 5.0

Answer = TypeVar("Answer")

CREATED = pb.PushOutcome.PUSH_OUTCOME_CREATED
OK = pb.LeaseOutcome.LEASE_OUTCOME_OK


class Load:
    """Raw calls without the SDK, so that nothing is repeated but by what stands here."""

    def __init__(self, address: str, producers: int, workers: int) -> None:
        self.history = History()
        self.failures: list[BaseException] = []
        self._address = address
        self._producing = threading.Event()
        self._producing.set()
        self._working = threading.Event()
        self._working.set()
        self._producers = [self._thread(self._produce) for _ in range(producers)]
        self._workers = [self._thread(self._work) for _ in range(workers)]

    def start(self) -> None:
        for thread in (*self._producers, *self._workers):
            thread.start()

    def stop_producing(self) -> None:
        self._producing.clear()
        for thread in self._producers:
            thread.join()

    def drain(self, seconds: float) -> None:
        """Lets the workers go on until every pushed job is acknowledged, or the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and len(self.history.acked) < len(self.history.pushed):
            time.sleep(0.1)
        self._working.clear()
        for thread in self._workers:
            thread.join()

    def _thread(self, work: Callable[[rpc.QueueServiceStub], None]) -> threading.Thread:
        def run() -> None:
            with grpc.insecure_channel(
                self._address,
                options=[
                    ("grpc.max_reconnect_backoff_ms", 200),
                    ("grpc.use_local_subchannel_pool", 1),
                ],
            ) as channel:
                try:
                    work(rpc.QueueServiceStub(channel))
                except BaseException as error:
                    self.failures.append(error)

        return threading.Thread(target=run)

    def _produce(self, stub: rpc.QueueServiceStub) -> None:
        """A batch whose answer was lost is pushed again until it is answered, with the same ids."""
        while self._producing.is_set():
            jobs = [Job(id=uuid7(), queue=QUEUE, type="Load") for _ in range(BATCH)]
            for job in jobs:
                job.retry.max_attempts = 1000
            request = pb.PushRequest(jobs=jobs)
            response = until_answered(partial(stub.Push, request, timeout=CALL_SECONDS))
            created = [r.job_id for r in response.results if r.outcome == CREATED]
            self.history.record_push([job.id for job in jobs], created)

    def _work(self, stub: rpc.QueueServiceStub) -> None:
        while self._working.is_set():
            request = pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)], max_jobs=BATCH)
            request.wait.FromMilliseconds(500)
            request.lease.FromSeconds(LEASE_SECONDS)
            called = time.monotonic()
            try:
                leases = stub.Reserve(request, timeout=CALL_SECONDS).leases
            except grpc.RpcError as error:
                pause_after(error)
                continue
            if leases:
                self.history.record_deliveries(
                    [Delivery(lease.job.id, lease.attempt, called) for lease in leases]
                )
                acks = [pb.Ack(lease_token=lease.lease_token) for lease in leases]
                answer = until_answered(
                    partial(stub.Ack, pb.AckRequest(acks=acks), timeout=CALL_SECONDS)
                )
                settled = [
                    lease.job.id
                    for lease, result in zip(leases, answer.results, strict=True)
                    if result.outcome == OK
                ]
                self.history.record_acks(settled, time.monotonic())


def until_answered(call: Callable[[], Answer]) -> Answer:
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            pause_after(error)


def pause_after(error: grpc.RpcError) -> None:
    """Any failure but one of a broker that is gone is a defect, and is raised."""
    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        raise error
    time.sleep(0.05)
