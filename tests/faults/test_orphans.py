"""P8, P10: jobs whose worker was killed are back when their lease has run out, and within a second.

`make faults` measures it over every store, with hundreds of orphans each; a plain test run with
few, over some of them. Where brokers share the store, the one that granted the leases is
killed along with the worker every other time.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from tests.faults import clock_program
from tests.faults.durable_stores import EVERY, SHARED, MakeStore, Store, redis_cluster
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.link import Link
from tests.support.broker_process import BrokerProcess
from tests.support.servers.process import wait_until
from tests.support.standstill import Standstill
from towline import Client
from towline.ids import uuid7
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

ORPHANS = size("ORPHANS", 20)
LONG = "TOWLINE_ORPHANS" in os.environ
#: Of one worker.
TOGETHER = 20
#: A job that is not back by then is not coming, in seconds.
BACK_SECONDS = 30.0
#: Jobs of one worker of the SDK.
CONCURRENCY = 4
#: How much later than its lease a job may be back, in seconds (P8).
PROMPT = 1.0
#: How much earlier: brokers know the clock of their store to some milliseconds.
CLOCK_ERROR = 0.05


@contextmanager
def memory(_: Path) -> Iterator[Store]:
    yield Store("memory:")


STORES: dict[str, MakeStore] = {"memory": memory, **EVERY, "redis_cluster": redis_cluster}
#: A plain test run leaves out what differs little from these.
MEASURED = list(STORES) if LONG else ["file", "postgresql", "redis"]


@pytest.mark.parametrize("kind", MEASURED)
@pytest.mark.timeout(60 + ORPHANS)
def test_p8_an_orphaned_job_is_back_within_its_lease_and_a_second(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    late: list[float] = []
    brokers_killed = 0
    with (
        STORES[kind](tmp_path) as store,
        ExitStack() as running,
        Standstill(tmp_path) as standstill,
    ):
        shared = kind in SHARED or STORES[kind] is redis_cluster
        granting, *others = [
            running.enter_context(store.broker(tmp_path, name))
            for name in (("granting", "other") if shared else ("only",))
        ]
        [other] = others or [granting]
        for number in range(-(-ORPHANS // TOGETHER)):
            queue = f"orphans-{number}"
            _push(other, queue)
            with _worker(granting, queue, seed() + number) as (worker, leases_end):
                worker.kill()
                worker.wait()
                both = granting is not other and number % 2 == 0
                if both:
                    granting.kill()
                    brokers_killed += 1
                back = _back(other, queue, TOGETHER)
                late += [back[job] - end for job, end in leases_end.items()]
                if both:
                    granting.start()
    late.sort()
    figures.show(
        f"orphans, {kind}",
        orphans=len(late),
        brokers_killed=brokers_killed,
        p50_ms_after_the_lease=_percentile(late, 50),
        p99_ms_after_the_lease=_percentile(late, 99),
        max_ms_after_the_lease=_percentile(late, 100),
    )
    assert late[0] > -CLOCK_ERROR
    assert late[-1] < PROMPT + standstill.longest


@pytest.mark.timeout(60 + ORPHANS)
def test_p8_jobs_of_a_killed_worker_of_the_sdk_are_back_within_a_lease_and_a_second(
    tmp_path: Path, figures: Figures
) -> None:
    """The guardian of a worker, which sends its heartbeats if it cannot, ends with it."""
    chance = random.Random(seed())
    late: list[float] = []
    with (
        BrokerProcess("memory:", folder=tmp_path) as broker,
        Link([broker.address]) as link,
        Client(broker.address) as client,
        Standstill() as standstill,
    ):
        for _ in range(ORPHANS // CONCURRENCY if LONG else 1):
            client.dispatch_batch([clock_program.long_work.job() for _ in range(CONCURRENCY)])
            with sdk_worker(broker) as worker:
                wait_until(
                    lambda: link.total().depth.leased == CONCURRENCY, "the worker has the jobs"
                )
                time.sleep(chance.uniform(0.0, clock_program.WORK * 0.6))
                worker.kill()
                killed = time.monotonic()
            back = _back(broker, clock_program.QUEUE, CONCURRENCY)
            late += [at - killed - clock_program.LEASE for at in back.values()]
    late.sort()
    figures.show(
        "orphans of a worker of the SDK",
        orphans=len(late),
        p50_ms_after_kill_and_lease=_percentile(late, 50),
        p99_ms_after_kill_and_lease=_percentile(late, 99),
        max_ms_after_kill_and_lease=_percentile(late, 100),
    )
    assert late[-1] < PROMPT + standstill.longest


@contextmanager
def sdk_worker(broker: BrokerProcess) -> "Iterator[subprocess.Popen[bytes]]":
    command = [sys.executable, "-m", "tests.faults.clock_program", "worker", broker.address]
    with subprocess.Popen(command) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def _push(broker: BrokerProcess, queue: str) -> None:
    jobs = [Job(id=uuid7(), queue=queue, type="Orphan") for _ in range(TOGETHER)]
    with grpc.insecure_channel(broker.address) as channel:
        QueueServiceStub(channel).Push(pb.PushRequest(jobs=jobs), timeout=20)


@contextmanager
def _worker(
    broker: BrokerProcess, queue: str, seed: int
) -> "Iterator[tuple[subprocess.Popen[str], dict[str, float]]]":
    """One that holds all jobs of the queue, and when each lease runs out, at the earliest."""
    arguments = [broker.address, queue, str(TOGETHER), str(seed)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.orphan_worker", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        try:
            assert worker.stdout is not None
            lines = [worker.stdout.readline().split() for _ in range(TOGETHER)]
            yield worker, {job: float(end) for job, end in lines}
        finally:
            worker.kill()


def _back(broker: BrokerProcess, queue: str, count: int) -> dict[str, float]:
    """When each job of the queue came to a worker that waits there all the time."""
    back: dict[str, float] = {}
    deadline = time.monotonic() + BACK_SECONDS
    request = pb.ReserveRequest(queues=[pb.QueueChoice(name=queue)], max_jobs=count)
    request.worker_id = "rescuer"
    request.wait.FromSeconds(10)
    request.lease.FromSeconds(60)
    with grpc.insecure_channel(broker.address) as channel:
        stub = QueueServiceStub(channel)
        while len(back) < count:
            leases = stub.Reserve(request, timeout=20).leases
            now = time.monotonic()
            assert now < deadline, f"{count - len(back)} jobs are not back"
            assert {lease.attempt for lease in leases} <= {2}
            back |= {lease.job.id: now for lease in leases}
            if leases:
                acks = [pb.Ack(lease_token=lease.lease_token) for lease in leases]
                stub.Ack(pb.AckRequest(acks=acks), timeout=20)
    return back


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """Nearest rank; in milliseconds."""
    rank = -(-len(ordered) * percent // 100)
    return round(ordered[rank - 1] * 1000, 1)
