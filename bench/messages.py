"""The jobs that are measured with, and the calls that carry them, as bytes.

A client that made and read messages would take a good part of two processors; what is measured is
the broker.
"""

import os
from itertools import count
from typing import TypeAlias

import grpc

from towline.ids import uuid7
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Job

QUEUE = "bench"
SERVICE = "/towline.v1.QueueService"

#: A call of bytes to bytes; generic for the type checker only.
Unary: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


def new_job(payload: int, delay: int = 0) -> Job:
    """``payload`` in bytes; ``delay`` in seconds, 0 for none."""
    job = Job(
        id=uuid7(),
        queue=QUEUE,
        type="Bench",
        payload=b"x" * payload,
        content_type="application/json",
    )
    if delay:
        job.delay.FromSeconds(delay)
    return job


class Pushes:
    """Serialized PushRequests with ``batch`` jobs each, every job with an id of its own."""

    def __init__(self, batch: int, payload: int, delay: int = 0) -> None:
        self._batch = batch
        job = new_job(payload, delay)
        one = pb.PushRequest(jobs=[job]).SerializeToString()
        self._head, self._tail = one.split(job.id.encode())
        # A UUID of version 7 ends in chance; here, in a number behind some of it.
        chance = os.urandom(3).hex()
        self._id = f"{job.id[:15]}{chance[:3]}-8{chance[3:]}-".encode()
        self._numbers = count()

    def next(self) -> bytes:
        head, tail = self._head + self._id, self._tail
        numbers = (b"%012x" % next(self._numbers) for _ in range(self._batch))
        return b"".join([head + number + tail for number in numbers])


def reserve(batch: int, queue: str = QUEUE) -> bytes:
    request = pb.ReserveRequest(queues=[pb.QueueChoice(name=queue)], max_jobs=batch)
    request.lease.FromSeconds(600)
    return request.SerializeToString()


def acks(reserved: bytes, expected: int) -> bytes:
    """Raises AssertionError if there are fewer leases."""
    leases = pb.ReserveResponse.FromString(reserved).leases
    if len(leases) != expected:
        raise AssertionError(f"reserved {len(leases)} of {expected}")
    return pb.AckRequest(
        acks=[pb.Ack(lease_token=lease.lease_token) for lease in leases]
    ).SerializeToString()


def check_acked(answer: bytes) -> None:
    """Raises AssertionError."""
    results = pb.AckResponse.FromString(answer).results
    if any(result.outcome != pb.LeaseOutcome.LEASE_OUTCOME_OK for result in results):
        raise AssertionError("an ack was refused")
