"""`towline-broker move`."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.broker_process import COMMAND, BrokerProcess
from tests.support.terminal import run_at_terminal
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2_grpc import QueueServiceStub


class Running:
    """A broker with the stores "default", "new" and "third", and calls to it."""

    def __init__(self, broker: BrokerProcess, stub: QueueServiceStub) -> None:
        self.broker = broker
        self._stub = stub

    def push(self, count: int, queue: str = "q") -> None:
        jobs = [Job(queue=queue, type="T") for _ in range(count)]
        self._stub.Push(pb.PushRequest(jobs=jobs), timeout=10)

    def reserve(self, count: int, queue: str = "q") -> list[Any]:
        request = pb.ReserveRequest(queues=[pb.QueueChoice(name=queue)], max_jobs=count)
        return list(self._stub.Reserve(request, timeout=10).leases)

    def ack(self, leases: list[Any]) -> None:
        acks = [pb.Ack(lease_token=lease.lease_token) for lease in leases]
        self._stub.Ack(pb.AckRequest(acks=acks), timeout=10)

    def command(self, *arguments: str) -> tuple[str, ...]:
        return (*COMMAND, "move", *arguments, "--url", self.broker.address)

    def move(self, *arguments: str) -> tuple[int, str]:
        """The exit code, and what was said."""
        return ended(self.command(*arguments))

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*arguments), stderr=subprocess.PIPE, text=True, start_new_session=True
        )


def interrupted(moving: "subprocess.Popen[str]") -> list[str]:
    """What a move said that waited for two leases and was then interrupted."""
    assert moving.stderr is not None
    with moving.stderr:
        assert moving.stderr.readline().startswith("waiting for 2 jobs to be settled")
        moving.send_signal(signal.SIGINT)
        said = moving.stderr.read()
    assert moving.wait(30) == 130
    return said.splitlines()


def ended(command: tuple[str, ...]) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    new, third = (f"{name}=sqlite:///{tmp_path / name}.db" for name in ("new", "third"))
    with (
        BrokerProcess(
            f"sqlite:///{tmp_path / 'old.db'}", "--store", new, "--store", third, folder=tmp_path
        ) as broker,
        grpc.insecure_channel(broker.address) as channel,
    ):
        yield Running(broker, QueueServiceStub(channel))


def test_it_moves_a_queue_and_says_how_many_jobs(running: Running) -> None:
    running.push(25)
    code, said = running.move("q", "--to", "new", "--batch", "4")
    assert code == 0
    assert said.startswith("moved 25 jobs of queue q from default to new in ")
    assert len(running.reserve(25)) == 25
    assert running.move("q", "--to", "new") == (0, "queue q is in store new already\n")
    assert running.move("q", "--undo") == (
        0,
        "queue q is not being moved: it is in store new\n",
    )


def test_what_is_wrong_is_told(running: Running) -> None:
    running.push(1)
    code, said = running.move("nowhere", "--to", "new")
    assert code == 1
    assert "no queue 'nowhere'" in said
    code, said = running.move("q", "--to", "elsewhere")
    assert code == 2
    assert "no store 'elsewhere'; it has default, new, third" in said
    for arguments in (("q",), ("q", "--to", "new", "--undo"), ("q", "--to", "new", "--batch", "0")):
        assert running.move(*arguments)[0] == 2
    code, said = ended((*COMMAND, "move", "q", "--to", "new", "--url", "nonsense"))
    assert code == 2
    assert "--url" in said
    assert len(running.reserve(1)) == 1


def test_it_waits_for_leases_and_goes_on_after_an_interruption(running: Running) -> None:
    running.push(5)
    held = running.reserve(2)
    where = running.broker.address
    assert interrupted(running.begin("q", "--to", "new")) == [
        "towline-broker: interrupted",
        "3 jobs moved. Queue q is sealed: it takes jobs, and gives out none until its move is "
        "done. Nothing is lost.",
        f"  go on:    towline-broker move q --to new --url {where}",
        f"  go back:  towline-broker move q --undo --url {where}",
    ]
    assert running.reserve(5) == []
    running.ack(held)
    code, said = running.move("q", "--to", "new")
    assert code == 0
    assert "moved 0 jobs of queue q from default to new" in said
    assert len(running.reserve(5)) == 3


def test_it_can_be_taken_back(running: Running) -> None:
    running.push(5)
    held = running.reserve(2)
    interrupted(running.begin("q", "--to", "new"))
    code, said = running.move("q", "--undo")
    assert code == 0
    assert "moved 3 jobs of queue q from new to default" in said
    assert len(running.reserve(5)) == 3
    running.ack(held)


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        (("--to", "third"), "is on its way from 'default' to 'new'"),
        (("--to", "elsewhere"), "no store 'elsewhere'"),
    ],
)
def test_a_refused_move_of_a_queue_under_way_is_told_what_works(
    running: Running, refused: tuple[str, ...], says: str
) -> None:
    running.push(2)
    running.reserve(1)
    moving = running.begin("q", "--to", "new")
    assert moving.stderr is not None
    with moving.stderr:
        moving.stderr.readline()
        moving.send_signal(signal.SIGINT)
        assert moving.wait(30) == 130
    code, said = running.move("q", *refused)
    assert code == 2
    assert says in said
    where = running.broker.address
    assert said.splitlines()[-2:] == [
        f"  go on:    towline-broker move q --to new --url {where}",
        f"  go back:  towline-broker move q --undo --url {where}",
    ]


def test_a_batch_that_is_too_large_is_refused_before_anything_is_asked(running: Running) -> None:
    running.push(1)
    code, said = running.move("q", "--to", "new", "--batch", "1001")
    assert code == 2
    assert "--batch" in said
    assert "less than or equal to 1000" in said
    assert running.move("q", "--to", "new", "--batch", "1000")[0] == 0


def test_a_broker_that_is_gone_is_told(running: Running) -> None:
    running.push(3)
    running.reserve(1)
    moving = running.begin("q", "--to", "new")
    assert moving.stderr is not None
    with moving.stderr:
        moving.stderr.readline()
        running.broker.kill()
        said = moving.stderr.read()
    assert moving.wait(60) == 69
    assert "2 jobs moved. Queue q is sealed" in said
    running.broker.start()
    running.push(1)


def test_a_terminal_shows_a_bar(running: Running) -> None:
    running.push(3)
    held = running.reserve(1)
    with run_at_terminal(running.command("q", "--to", "new"), columns=120) as shown:
        shown.read_until("q: default -> new")
        shown.read_until("2/3")
        shown.read_until("waiting for 1 job to be settled")
        running.ack(held)
        assert shown.end() == 0
    assert "moved 2 jobs of queue q from default to new" in shown.text


def test_its_help_tells_examples_and_exit_codes() -> None:
    done = subprocess.run([*COMMAND, "move", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for part in ("--to", "--undo", "--batch", "1<=x<=1000", "Examples", "Exit codes", "130"):
        assert part in done.stdout
    assert done.stdout.isascii()
    assert "`" not in done.stdout
    assert sys.executable not in done.stdout
