"""P1, P2, P3: a queue moves from one store to another, and the broker is killed on the way."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from tests.faults.history import judge
from tests.faults.load import QUEUE, Load
from tests.faults.test_broker_kills import figures_of
from tests.support.broker_process import BrokerProcess
from towline.ids import uuid7
from towline.v1 import admin_service_pb2 as admin
from towline.v1.admin_service_pb2_grpc import AdminServiceStub
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushRequest
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

KILLS = 3
BACKLOG = 6_000
SEED = int(os.environ.get("TOWLINE_SEED", str(random.SystemRandom().randrange(2**32))))
DRAIN_SECONDS = 60.0


@pytest.mark.timeout(180)
def test_nothing_is_lost_or_run_again_when_the_broker_is_killed_in_the_middle_of_a_move(
    tmp_path: Path,
) -> None:
    options = ("--store", f"new=sqlite:///{tmp_path}/new.db")
    chance = random.Random(SEED)
    with BrokerProcess(f"sqlite:///{tmp_path}/old.db", *options, folder=tmp_path) as broker:
        load = Load(broker.address, producers=2, workers=2)
        fill(broker.address, load)
        load.start()
        for _ in range(KILLS):
            # A few small steps, and an end at any moment of the next one.
            for _ in range(chance.randrange(1, 6)):
                step(broker.address, 50)
            with begun_step(broker.address, 1000):
                time.sleep(chance.uniform(0, 0.05))
                broker.kill()
            broker.start()
            assert home(broker.address) == ("default", "new")
        load.stop_producing()
        command = run_move(broker.address)
        load.drain(DRAIN_SECONDS)
        stats, at_home = figures_of(broker.address), home(broker.address)
    verdict = judge(load.history)
    assert load.failures == []
    assert verdict.kept, f"seed {SEED}: {verdict}"
    assert len(load.history.acked) == verdict.pushed >= BACKLOG
    depth = stats.total.depth
    assert (depth.scheduled, depth.ready, depth.leased, depth.dead) == (0, 0, 0, 0)
    assert at_home == ("new", "")
    assert "from default to new" in command.stderr


def fill(address: str, load: Load) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = QueueServiceStub(channel)
        for _ in range(BACKLOG // 1000):
            jobs = [Job(id=uuid7(), queue=QUEUE, type="Load") for _ in range(1000)]
            results = stub.Push(PushRequest(jobs=jobs), timeout=30).results
            ids = [result.job_id for result in results]
            load.history.record_push(ids, ids)


def step(address: str, limit: int) -> admin.MoveQueueResponse:
    with grpc.insecure_channel(address) as channel:
        request = admin.MoveQueueRequest(queue=QUEUE, store="new", limit=limit)
        return AdminServiceStub(channel).MoveQueue(request, timeout=30)


@contextmanager
def begun_step(address: str, limit: int) -> Iterator[None]:
    """While a step is under way for whose answer nobody waits."""
    with grpc.insecure_channel(address) as channel:
        request = admin.MoveQueueRequest(queue=QUEUE, store="new", limit=limit)
        call = AdminServiceStub(channel).MoveQueue.future(request, timeout=30)
        yield
        call.cancel()


def home(address: str) -> tuple[str, str]:
    with grpc.insecure_channel(address) as channel:
        answer = AdminServiceStub(channel).ListQueues(admin.ListQueuesRequest(), timeout=30)
    return next((info.store, info.moving_to) for info in answer.queues if info.name == QUEUE)


def run_move(address: str) -> "subprocess.CompletedProcess[str]":
    command = "from towline_broker.cli import main; main()"
    arguments = ("move", QUEUE, "--to", "new", "--url", address)
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    return done
