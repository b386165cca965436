"""P1 to P7, Stats: a queue moves from one store to another, and the broker is killed on the way."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from tests.faults.harness.figures import Figures, seed
from tests.faults.harness.habits import PLAIN
from tests.faults.harness.load import Load
from tests.support.broker_process import BrokerProcess
from towline.v1 import admin_service_pb2 as admin
from towline.v1.admin_service_pb2_grpc import AdminServiceStub

KILLS = 3
BACKLOG = 6_000
QUEUE = PLAIN.queue


@pytest.mark.timeout(180)
def test_every_promise_is_kept_when_the_broker_is_killed_in_the_middle_of_a_move(
    tmp_path: Path, figures: Figures
) -> None:
    options = ("--store", f"new=sqlite:///{tmp_path}/new.db")
    chance = random.Random(seed())
    with BrokerProcess(f"sqlite:///{tmp_path}/old.db", *options, folder=tmp_path) as broker:
        load = Load([broker.address], tmp_path, seed=seed(), habits=PLAIN)
        load.fill(BACKLOG)
        with load:
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
            verdict = load.finish()
            at_home = home(broker.address)
    figures.prove("kill -9 while a queue moves, sqlite", verdict, kills=KILLS)
    assert at_home == ("new", "")
    assert "from default to new" in command.stderr


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
